"""Provisioning: ensure that every signed-in user has exactly one profile. SQL and rules, no web."""
