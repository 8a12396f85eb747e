"""Registration of all blueprints, hooks, error handlers and template filters."""

import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog
from flask import Flask, Response, g, request

from blueprints.admin import changes, jobs, mentees, system, users
from blueprints.admin import months as work_list
from blueprints.api import (
    admin_mentorados,
    admin_months,
    admin_operations,
    admin_users,
    auth,
    docs,
    mentorados,
    ops,
    webhooks,
)
from blueprints.pages import dashboard, months, profile, site_files
from core.config import Config
from core.flask_app import LazyModule
from core.logging import uses_console
from web import request_hooks
from web.access_policy import public_unlimited
from web.admin_labels import register_admin_labels
from web.formatting import register_filters
from web.mentee_texts import register_mentee_texts
from web.own_data import period_due
from web.problem_responses import reference_code, register_error_handlers, support_link
from web.request_context import pop_flashes
from web.responses import StaticFiles, security_headers

if TYPE_CHECKING:
    from blueprints import dev_clerk
else:
    dev_clerk = LazyModule("blueprints.dev_clerk")

log = structlog.get_logger(__name__)

BLUEPRINTS = (
    *(auth.auth, ops.ops, webhooks.webhooks, docs.api_docs, mentorados.mentorados),
    *(dashboard.pages, months.metricas, months.own_months, profile.profile),
    *(profile.personal_data, site_files.site_files),
    *(admin_mentorados.admin_mentorados, admin_mentorados.admin_mentorado_files),
    *(admin_operations.admin_provisioning, admin_operations.admin_sweeps),
    *(admin_operations.admin_audit, admin_months.admin_months, admin_users.admin_users),
    *(work_list.console, work_list.console_feedback, work_list.console_goals),
    *(system.console_system, system.console_audit, system.console_sweeps),
    *(users.console_users, users.console_search, users.console_personal_data),
    *(users.console_same_person, mentees.console_mentees, mentees.console_deleted),
    *(mentees.console_imports, changes.console_changes, jobs.console_jobs),
)


def register_blueprints(app: Flask, config: Config) -> None:
    """Register everything that answers requests, and the request hooks."""
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if config.uses_development_provider:
        app.register_blueprint(dev_clerk.local_clerk)
    public_unlimited(app.view_functions["static"])
    is_production = config.is_production
    if not is_production and uses_console(config.log_format, is_production=is_production):
        app.after_request(_log_request)  # before hooks that may answer a request themselves
    app.before_request(request_hooks.before_request)
    default, framed = (security_headers(config, is_framed=f) for f in (False, True))
    app.after_request(partial(request_hooks.after_request, StaticFiles(app), default, framed))
    app.teardown_request(request_hooks.teardown_request)
    app.jinja_env.globals.update(
        support_link=support_link,
        reference_code=reference_code,
        flashes=pop_flashes,
        period_due=period_due,
        account_url=config.account_url,
        is_creation_paused=system.is_creation_paused,
    )
    register_error_handlers(app)
    register_filters(app)
    register_mentee_texts(app)
    register_admin_labels(app)


def _log_request(response: Response) -> Response:
    """Log a line for developers, who read the log on a terminal; production counts instead."""
    milliseconds = (time.monotonic() - g.started) * 1000
    path = quote(request.path)  # a client chooses it, and a terminal obeys control characters
    log.info(f"{request.method} {path} {response.status_code} {milliseconds:.0f} ms")
    return response
