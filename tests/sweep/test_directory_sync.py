"""Directory sync: newer identities are applied to known and unknown users."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.clerk_calls import UserDirectory
from auth.clerk_client import Document
from auth.provider_calls import ProviderCalls, Rate
from dev.fake_clerk import DevUser, clerk_user
from models import Mentorado, User
from models.people import Role, Turma
from provisioning.rules import Rules
from sweep.directory_sync import DirectoryCounts, sync_directory
from tests.support.users import NOW
from web.services import Services

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
LATER = NOW + timedelta(days=1)


class ListedUsers:
    """A Clerk client whose user list holds the added users with their `updated_at`."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def add(self, user: DevUser, at: datetime | None = None) -> None:
        changed = at and round(at.timestamp() * 1000)
        self.documents.append({**clerk_user(user), "updated_at": changed})

    def user(self, clerk_id: str) -> Document:
        raise NotImplementedError

    def users(self, offset: int, limit: int) -> list[object]:
        return list(self.documents[offset : offset + limit])


@pytest.fixture
def listed() -> ListedUsers:
    return ListedUsers()


def sync(
    services: Services, listed: ListedUsers, *, is_admin_listed: bool = False
) -> DirectoryCounts:
    rules = Rules(admin_emails=frozenset({"eva@example.com"}) if is_admin_listed else frozenset())
    service = replace(services.provisioning, rules=rules)
    calls = ProviderCalls(Rate(99, 99))
    return sync_directory(service, UserDirectory(listed, calls), lambda: LATER)


def add(session: Session, **facts: Any) -> User:
    columns = {"name": EVA.name, "email": EVA.email, "identity_completed_at": NOW, **facts}
    user = User(clerk_id=EVA.clerk_id, **columns)
    session.add(user)
    session.commit()
    return user


def test_address_verified_since_is_linked_to_its_profile(
    services: Services, session: Session, listed: ListedUsers
) -> None:
    user = add(session, identity_as_of=NOW)
    unlinked = Mentorado(nome_completo="Eva Pré", email=EVA.email, turma=Turma.NEON)
    session.add(unlinked)
    session.commit()
    listed.add(EVA, NOW + timedelta(hours=1))

    counts = sync(services, listed)

    session.expire_all()
    assert (counts.ensured, unlinked.user_id) == (1, user.id)


@pytest.mark.parametrize("at", [None, NOW, NOW + timedelta(hours=1)])
def test_removed_address_ends_the_admin_role(
    services: Services, session: Session, listed: ListedUsers, at: datetime | None
) -> None:
    facts = {"email_verified": True, "role": Role.ADMIN, "admin_by_address": True}
    user = add(session, identity_as_of=NOW, **facts)
    listed.add(replace(EVA, email=None), at)

    sync(services, listed, is_admin_listed=True)

    session.expire_all()
    assert (user.email_verified, user.role) == (False, Role.USER)


def test_older_identity_changes_nothing(
    services: Services, session: Session, listed: ListedUsers
) -> None:
    user = add(session, email_verified=True, identity_as_of=NOW)
    listed.add(replace(EVA, email=None, name="Antiga"), NOW - timedelta(hours=1))

    counts = sync(services, listed)

    session.expire_all()
    assert (counts.ensured, user.email_verified, user.name) == (0, True, EVA.name)


def test_unchanged_user_is_only_marked_complete(
    services: Services, session: Session, listed: ListedUsers
) -> None:
    user = add(session, email_verified=True, identity_as_of=NOW)
    listed.add(EVA, NOW + timedelta(hours=1))

    counts = sync(services, listed)

    session.expire_all()
    assert (counts.read, counts.ensured, user.identity_completed_at) == (1, 0, LATER)


@pytest.mark.parametrize("completed_at", [None, "unknown"])
def test_unknown_or_incomplete_user_is_ensured(
    services: Services, session: Session, listed: ListedUsers, completed_at: str | None
) -> None:
    if completed_at is None:
        add(session, identity_completed_at=None)
    changed = replace(EVA, email="other@example.com")
    listed.add(changed)

    counts = sync(services, listed)

    session.expire_all()
    owner = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    assert (counts.ensured, session.scalars(owner).one()) == (1, EVA.clerk_id)
