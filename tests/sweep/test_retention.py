"""The sweep erases deleted accounts and old audit values after their retention."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.orm import Session

from models import AuditEvent, User
from models.people import Mentorado
from provisioning.audit import Source
from provisioning.clerk_messages import handle_account_deletion
from provisioning.erasure import EVENT
from sweep.sweeper import Sweeper
from tests.support.users import ALICE
from tests.support.whole_database import tables_with
from web.services import Services

VALUES = [str(value) for value in (ALICE.clerk_id, ALICE.name, ALICE.email)]


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper on the connection of the test."""
    return Sweeper(services.provisioning)


@pytest.mark.parametrize(("days", "is_erased"), [(29, False), (31, True)])
def test_deleted_account_is_erased_after_its_retention(
    sweeper: Sweeper,
    session: Session,
    connection: Connection,
    alice: Mentorado,
    days: int,
    is_erased: bool,
) -> None:
    deleted_at = sweeper.now() - timedelta(days=days)
    handle_account_deletion(session, ALICE.clerk_id, source=Source("webhook"), now=deleted_at)
    session.commit()

    sweeper.start("cli")

    events = select(AuditEvent.details).where(AuditEvent.event == EVENT)
    assert (tables_with(connection, VALUES) == {}) == is_erased
    assert [details["reason"] for details in session.scalars(events) if details] == (
        ["retention"] if is_erased else []
    )


def test_existing_account_is_never_erased(
    sweeper: Sweeper, session: Session, alice: Mentorado
) -> None:
    session.execute(text("UPDATE users SET created_at = now() - interval '9 years'"))
    session.commit()

    sweeper.start("cli")

    assert session.scalars(select(User.clerk_id)).one() == ALICE.clerk_id


def test_account_that_cannot_be_erased_does_not_stop_the_sweep(
    sweeper: Sweeper, session: Session, connection: Connection, alice: Mentorado
) -> None:
    session.execute(
        text(
            "CREATE TABLE surda (m int REFERENCES mentorados);"
            f"INSERT INTO surda VALUES ({alice.id});"
            "CREATE RULE nada AS ON DELETE TO surda DO INSTEAD NOTHING"
        )
    )
    deleted_at = sweeper.now() - timedelta(days=31)
    handle_account_deletion(session, ALICE.clerk_id, source=Source("webhook"), now=deleted_at)
    session.add(User(clerk_id="user_new"))
    session.commit()

    counts = sweeper.start("cli")

    assert (counts.created, ALICE.clerk_id in tables_with(connection, VALUES)) == (1, True)


@pytest.mark.parametrize(("days", "keys"), [(729, {"after", "before", "x"}), (731, {"x"})])
def test_old_audit_events_lose_their_values(
    sweeper: Sweeper, session: Session, days: int, keys: set[str]
) -> None:
    details = {"before": {"email": "a@example.com"}, "after": {"email": "b@example.com"}, "x": 1}
    at = sweeper.now() - timedelta(days=days)
    session.add(AuditEvent(event="admin_action", entry="admin", at=at, details=details))
    session.commit()

    sweeper.start("cli")

    [event] = session.scalars(
        select(AuditEvent).where(AuditEvent.event == "admin_action"),
        execution_options={"populate_existing": True},
    )
    assert set(event.details or {}) == keys
