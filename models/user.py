"""users: the people Clerk has told us about, one row for each Clerk id."""

import enum

from sqlalchemy import BigInteger, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt, Flag, Time, pg_enum


class Role(enum.StrEnum):
    """What a person may do."""

    USER = "user"
    ADMIN = "admin"


class User(Model):
    """A person as last known. Lengths are those of the existing installation's columns."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    clerk_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None]
    email: Mapped[str | None] = mapped_column(String(320))
    # Whether Clerk vouches for `email`; only then may it link a pre-registered profile.
    email_verified: Mapped[Flag]
    image_url: Mapped[str | None]
    login_method: Mapped[str | None] = mapped_column(String(64))
    role: Mapped[Role] = mapped_column(pg_enum(Role, "role"), server_default=Role.USER)
    # The role came from ADMIN_EMAILS and goes with it; a granted role has no such mark and stays.
    admin_by_address: Mapped[Flag]
    blocked_at: Mapped[Time | None]
    # Clerk has deleted the account: none of its sessions counts any longer.
    deleted_at: Mapped[Time | None]
    # Of when the newest news about this person is, by Clerk's clock; older ones change nothing.
    identity_as_of: Mapped[Time | None]
    # When the identity was last complete, from Clerk's answer or a token; NULL: not yet.
    identity_completed_at: Mapped[Time | None]
    # When Clerk was last asked about this user by a visit, or by a sweep without an answer.
    identity_asked_at: Mapped[Time | None]
    # Incremented by triggers (migration 0012) with every change that concerns the user's request
    # context; a cached context of another version is invalid.
    context_version: Mapped[int] = mapped_column(
        BigInteger, server_default=text("floor(extract(epoch from now()) * 1000)")
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    last_signed_in: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("clerk_id"),
        Index("users_email_idx", "email"),
        Index("users_normalized_email_idx", text("normalized_address(email)")),
        Index(
            "users_incomplete_idx",
            text("identity_asked_at NULLS FIRST"),
            text("id DESC"),
            postgresql_where=text("identity_completed_at IS NULL"),
        ),
        Index(
            "users_refresh_idx",
            text("greatest(identity_asked_at, identity_completed_at)"),
            "id",
            postgresql_where=text(
                "identity_completed_at IS NOT NULL AND deleted_at IS NULL AND blocked_at IS NULL"
            ),
        ),
    )

    @property
    def is_admin(self) -> bool:
        """Whether the administration is open to this person."""
        return self.role is Role.ADMIN
