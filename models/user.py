"""users: Clerk accounts that the program knows, one row for each Clerk id."""

import enum

from sqlalchemy import BigInteger, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt, Flag, Time, pg_enum


class Role(enum.StrEnum):
    """The roles of users."""

    USER = "user"
    ADMIN = "admin"


class User(Model):
    """A user with the latest known identity. Lengths are those of the adopted schema."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    clerk_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None]
    email: Mapped[str | None] = mapped_column(String(320))
    # Whether Clerk has verified `email`; only then may it link a pre-registered profile.
    email_verified: Mapped[Flag]
    image_url: Mapped[str | None]
    login_method: Mapped[str | None] = mapped_column(String(64))
    role: Mapped[Role] = mapped_column(pg_enum(Role, "role"), server_default=Role.USER)
    # The role comes from ADMIN_EMAILS and ends with it; a granted role stays.
    admin_by_address: Mapped[Flag]
    blocked_at: Mapped[Time | None]
    # The account of the same person that is used instead of this one, which is blocked. No foreign
    # key: the id may outlive that account.
    same_person_as: Mapped[int | None]
    # Clerk has deleted the account: none of its sessions is valid any longer.
    deleted_at: Mapped[Time | None]
    # The time of the newest identity by Clerk's clock; an older identity changes nothing.
    identity_as_of: Mapped[Time | None]
    # When a complete identity was last received, from Clerk's API or a token; NULL: not yet.
    identity_completed_at: Mapped[Time | None]
    # When this user was last looked up by a request, or by a sweep without an answer.
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
        Index("users_search_idx", text("search_words(name, email)"), postgresql_using="gin"),
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
        Index("users_deleted_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    @property
    def is_admin(self) -> bool:
        """Whether the user may use the admin console."""
        return self.role is Role.ADMIN
