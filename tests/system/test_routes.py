"""Every route has an access policy."""

from flask import Flask

from web.access_policy import POLICIES, Access

PUBLIC = {
    "static",
    "auth.login",
    "auth.logout",
    "site_files.root_file",
    "api_docs.docs",
    "api_docs.openapi",
    "ops.healthz",
    "ops.readyz",
    "ops.metrics",
    "webhooks.clerk",
    "local_clerk.sign_in",
    "local_clerk.enter",
    "local_clerk.instance_jwks",
    "local_clerk.jwks",
    "local_clerk.user",
    "local_clerk.users",
    "local_clerk.handshake",
    "local_clerk.revoke",
    "local_clerk.handshake_payload",
    "local_clerk.refresh",
}


def test_every_view_has_an_access_policy(app: Flask) -> None:
    without_policy = [
        name for name, view in app.view_functions.items() if POLICIES.get(view) is None
    ]

    assert without_policy == []


def test_public_views_are_exactly_the_expected_ones(app: Flask) -> None:
    policies = {name: POLICIES.get(view) for name, view in app.view_functions.items()}

    assert {
        name for name, policy in policies.items() if policy and policy.access is Access.PUBLIC
    } == PUBLIC


def test_admin_api_requires_an_admin(app: Flask) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/admin")]
    policies = [POLICIES.get(app.view_functions[rule.endpoint]) for rule in rules]

    assert rules != []
    assert {policy.access for policy in policies if policy} == {Access.ADMIN}
