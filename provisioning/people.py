"""The row of the person: written before anything is decided, and locked until it is."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import User
from provisioning.identity import Identity

# What is not known never overwrites what is. An address without a word about its verification keeps
# the old verdict only while it stays the same address. A role from ADMIN_EMAILS comes and goes with
# the list; a granted one is not its business.
CHANGES = """
    name = coalesce(:name, users.name),
    email = coalesce(:email, users.email),
    email_verified = CASE
        WHEN :email IS NULL THEN users.email_verified
        ELSE coalesce(CAST(:email_verified AS boolean), users.email_verified
            AND normalized_address(users.email) = normalized_address(:email)) END,
    image_url = coalesce(:image_url, users.image_url),
    login_method = coalesce(:login_method, users.login_method),
    role = CASE
        WHEN CAST(:listed_admin AS boolean) THEN 'admin'
        WHEN users.admin_by_address AND NOT CAST(:listed_admin AS boolean) THEN 'user'
        ELSE users.role END,
    admin_by_address = CASE
        WHEN CAST(:listed_admin AS boolean) IS NULL THEN users.admin_by_address
        ELSE CAST(:listed_admin AS boolean) AND (users.role = 'user' OR users.admin_by_address) END,
    updated_at = :now,
    last_signed_in = CASE WHEN :signs_in THEN :now ELSE users.last_signed_in END
"""

# UPDATE first, because INSERT … ON CONFLICT would use up an id of the 32-bit sequence at every
# login. Both arms leave the row locked, so that calls for one person queue up here.
UPSERT = text(f"""
    WITH known AS (
        UPDATE users SET {CHANGES} WHERE clerk_id = :clerk_id RETURNING *
    ), fresh AS (
        INSERT INTO users (clerk_id, name, email, email_verified, image_url, login_method, role,
                           admin_by_address, created_at, updated_at, last_signed_in)
        SELECT :clerk_id, :name, :email, coalesce(CAST(:email_verified AS boolean), false),
               :image_url, :login_method,
               CAST(CASE WHEN CAST(:listed_admin AS boolean) THEN 'admin' ELSE 'user' END AS role),
               coalesce(CAST(:listed_admin AS boolean), false), :now, :now, :now
         WHERE NOT EXISTS (SELECT 1 FROM known)
        ON CONFLICT (clerk_id) DO UPDATE SET {CHANGES}
        RETURNING *
    )
    SELECT * FROM known UNION ALL SELECT * FROM fresh
""")  # noqa: S608 - built from constants of this file only


def remember(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store what the identity knows and return the person's row, locked until the commit."""
    values = asdict(identity) | {"signs_in": signs_in, "now": now}
    statement = select(User).from_statement(UPSERT.bindparams(**values))
    user: User = session.scalars(statement, execution_options={"populate_existing": True}).one()
    return user
