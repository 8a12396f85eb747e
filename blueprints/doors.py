"""All doors of the house: which blueprints, hooks, headers and words an app gets."""

from flask import Flask

from blueprints import gate
from blueprints.admin_audit import admin_audit
from blueprints.admin_mentorados import admin_mentorados
from blueprints.admin_provisioning import admin_provisioning
from blueprints.admin_sweeps import admin_sweeps
from blueprints.admin_users import admin_users
from blueprints.answers import reference, support_link
from blueprints.api_docs import api_docs, register_description
from blueprints.assets import register_assets
from blueprints.auth import auth
from blueprints.desk import desk
from blueprints.desk_changes import desk_changes
from blueprints.desk_enrol import desk_enrol
from blueprints.desk_feedback import desk_feedback
from blueprints.desk_goals import desk_goals
from blueprints.desk_jobs import desk_jobs
from blueprints.desk_mentees import desk_mentees
from blueprints.desk_people import desk_people
from blueprints.desk_sweeps import desk_sweeps
from blueprints.desk_words import register_desk_words
from blueprints.error_answers import register_errors
from blueprints.headers import register_headers
from blueprints.local_clerk import local_clerk
from blueprints.measuring import register_measuring
from blueprints.mentorados import mentorados
from blueprints.metricas import metricas
from blueprints.ops import ops
from blueprints.pages import pages
from blueprints.stance import public_unlimited
from blueprints.toasts import told
from blueprints.webhooks import webhooks
from blueprints.words import register_words
from config import Config

FOR_EVERYBODY = (auth, ops, webhooks, api_docs)
FOR_MENTEES = (pages, metricas, mentorados)
FOR_SUPPORT = (
    desk,
    desk_people,
    desk_mentees,
    desk_goals,
    desk_feedback,
    desk_enrol,
    desk_jobs,
    desk_sweeps,
    desk_changes,
)
FOR_ADMINS = (admin_sweeps, admin_mentorados, admin_users, admin_provisioning, admin_audit)


def open_doors(app: Flask, config: Config) -> None:
    """Register everything that answers requests, and the gate before it."""
    for blueprint in (*FOR_EVERYBODY, *FOR_MENTEES, *FOR_ADMINS, *FOR_SUPPORT):
        app.register_blueprint(blueprint)
    if config.uses_local_identity:
        app.register_blueprint(local_clerk)
    for endpoint in ("static", "bootstrap.static"):
        public_unlimited(app.view_functions[endpoint])
    register_measuring(app)
    app.before_request(gate.admit)
    app.after_request(gate.dismiss)
    app.teardown_request(gate.forget)
    app.context_processor(
        lambda: {"support_link": support_link, "reference": reference, "told": told}
    )
    register_assets(app)
    register_headers(app, config)
    register_errors(app)
    register_words(app)
    register_desk_words(app)
    register_description(app)
