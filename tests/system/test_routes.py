"""Every route states who may enter."""

from flask import Flask

from web.access_policy import Access, policy_of

PUBLIC = {
    "static",
    "bootstrap.static",
    "auth.login",
    "auth.logout",
    "pages.home",
    "api_docs.docs",
    "api_docs.openapi",
    "ops.healthz",
    "ops.readyz",
    "ops.metrics",
    "webhooks.clerk",
    "local_clerk.sign_in",
    "local_clerk.enter",
    "local_clerk.jwks",
    "local_clerk.user",
    "local_clerk.users",
    "local_clerk.handshake",
    "local_clerk.revoke",
}


def test_every_view_states_who_may_enter(app: Flask) -> None:
    silent = [name for name, view in app.view_functions.items() if policy_of(view) is None]

    assert silent == []


def test_what_is_public_is_public_on_purpose(app: Flask) -> None:
    stances = {name: policy_of(view) for name, view in app.view_functions.items()}

    assert {n for n, s in stances.items() if s and s.access is Access.PUBLIC} == PUBLIC


def test_administration_is_for_admins(app: Flask) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/admin")]
    stances = [policy_of(app.view_functions[rule.endpoint]) for rule in rules]

    assert rules != []
    assert {stance.access for stance in stances if stance} == {Access.ADMIN}
