"""Registration of all blueprints, hooks, error handlers and template filters."""

from functools import partial
from typing import TYPE_CHECKING

from flask import Flask

from blueprints.admin.changes import console_changes
from blueprints.admin.jobs import console_jobs
from blueprints.admin.mentees import console_deleted, console_imports, console_mentees
from blueprints.admin.months import console, console_feedback, console_goals
from blueprints.admin.system import (
    console_audit,
    console_sweeps,
    console_system,
    is_creation_paused,
)
from blueprints.admin.users import (
    console_personal_data,
    console_same_person,
    console_search,
    console_users,
)
from blueprints.api.admin_audit import admin_audit
from blueprints.api.admin_mentorados import admin_mentorado_files, admin_mentorados
from blueprints.api.admin_months import admin_months
from blueprints.api.admin_operations import admin_provisioning, admin_sweeps
from blueprints.api.admin_users import admin_users
from blueprints.api.auth import auth
from blueprints.api.docs import api_docs, register_api_document
from blueprints.api.mentorados import mentorados
from blueprints.api.ops import ops
from blueprints.api.webhooks import webhooks
from blueprints.pages.dashboard import pages
from blueprints.pages.months import metricas, own_months
from blueprints.pages.profile import personal_data, profile
from blueprints.pages.site_files import site_files
from core.config import Config
from core.flask_app import LazyModule
from web import request_hooks
from web.access_policy import public_unlimited
from web.admin_labels import register_admin_labels
from web.error_handlers import register_error_handlers
from web.formatting import register_filters
from web.mentee_texts import register_mentee_texts
from web.own_data import period_due
from web.problem_responses import reference_code, support_link
from web.request_context import pop_flashes
from web.request_log import register_request_log
from web.responses import StaticFiles, security_headers

if TYPE_CHECKING:
    from blueprints import dev_clerk
else:
    dev_clerk = LazyModule("blueprints.dev_clerk")

SHARED_BLUEPRINTS = (auth, ops, webhooks, api_docs)
MENTEE_BLUEPRINTS = (
    pages,
    site_files,
    metricas,
    own_months,
    profile,
    personal_data,
    mentorados,
)
CONSOLE_BLUEPRINTS = (
    console,
    console_system,
    console_search,
    console_audit,
    console_same_person,
    console_users,
    console_mentees,
    console_goals,
    console_feedback,
    console_imports,
    console_jobs,
    console_sweeps,
    console_changes,
    console_deleted,
    console_personal_data,
)
ADMIN_API_BLUEPRINTS = (
    admin_months,
    admin_sweeps,
    admin_mentorados,
    admin_mentorado_files,
    admin_users,
    admin_provisioning,
    admin_audit,
)


def register_blueprints(app: Flask, config: Config) -> None:
    """Register everything that answers requests, and the request hooks."""
    for blueprint in (
        *SHARED_BLUEPRINTS,
        *MENTEE_BLUEPRINTS,
        *ADMIN_API_BLUEPRINTS,
        *CONSOLE_BLUEPRINTS,
    ):
        app.register_blueprint(blueprint)
    if config.uses_local_identity:
        app.register_blueprint(dev_clerk.local_clerk)
    public_unlimited(app.view_functions["static"])
    register_request_log(app, config)
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
    )
    register_error_handlers(app)
    register_filters(app)
    register_mentee_texts(app)
    register_admin_labels(app)
    app.add_template_global(is_creation_paused)
    register_api_document(app)
