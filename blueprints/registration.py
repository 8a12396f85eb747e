"""Registration of all blueprints, hooks, error handlers and template filters."""

from typing import TYPE_CHECKING

from flask import Flask

from blueprints.admin.changes import console_changes
from blueprints.admin.feedback import console_feedback
from blueprints.admin.goals import console_goals
from blueprints.admin.imports import console_imports
from blueprints.admin.jobs import console_jobs
from blueprints.admin.mentees import console_mentees
from blueprints.admin.overview import console, console_sweeps
from blueprints.admin.users import console_users
from blueprints.api.admin_mentorados import admin_mentorados
from blueprints.api.admin_operations import admin_audit, admin_provisioning, admin_sweeps
from blueprints.api.admin_users import admin_users
from blueprints.api.auth import auth
from blueprints.api.docs import api_docs, register_api_document
from blueprints.api.mentorados import mentorados
from blueprints.api.ops import ops
from blueprints.api.webhooks import webhooks
from blueprints.pages.dashboard import metricas, pages
from core.config import Config
from core.lazy_import import LazyModule
from web import request_hooks
from web.access_policy import public_unlimited
from web.admin_labels import register_admin_labels
from web.error_handlers import register_error_handlers
from web.formatting import register_filters
from web.problem_responses import reference_code, support_link
from web.request_context import pop_flashes
from web.request_hooks import register_metrics_hooks
from web.security_headers import register_security_headers
from web.static_files import register_static_files

if TYPE_CHECKING:
    from blueprints import dev_clerk
else:
    dev_clerk = LazyModule("blueprints.dev_clerk")

SHARED_BLUEPRINTS = (auth, ops, webhooks, api_docs)
MENTEE_BLUEPRINTS = (pages, metricas, mentorados)
CONSOLE_BLUEPRINTS = (
    console,
    console_users,
    console_mentees,
    console_goals,
    console_feedback,
    console_imports,
    console_jobs,
    console_sweeps,
    console_changes,
)
ADMIN_API_BLUEPRINTS = (
    admin_sweeps,
    admin_mentorados,
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
    register_metrics_hooks(app)
    app.before_request(request_hooks.before_request)
    app.after_request(request_hooks.after_request)
    app.teardown_request(request_hooks.teardown_request)
    app.context_processor(
        lambda: {
            "support_link": support_link,
            "reference_code": reference_code,
            "flashes": pop_flashes,
        }
    )
    register_static_files(app)
    register_security_headers(app, config)
    register_error_handlers(app)
    register_filters(app)
    register_admin_labels(app)
    register_api_document(app)
