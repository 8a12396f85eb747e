"""A retry after a lost COMMIT reply reports the outcome that the audit log shows."""

import pytest
from sqlalchemy.orm import Session

from provisioning.audit import Source
from provisioning.ensure import EnsureResult, Outcome, ensure, recover_lost_commit
from provisioning.rules import Rules
from tests.support.users import BOB, NOW, identity_of

REQUEST, OTHER_REQUEST, WITHOUT_ID = Source("api", "req-1"), Source("api", "req-2"), Source("sweep")


def ensured_by(session: Session, source: Source) -> EnsureResult:
    return ensure(session, identity_of(BOB), source=source, now=NOW, rules=Rules())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (REQUEST, REQUEST, Outcome.CREATED),
        (OTHER_REQUEST, REQUEST, Outcome.EXISTING),
        (WITHOUT_ID, WITHOUT_ID, Outcome.EXISTING),
    ],
    ids=["same request", "other request", "no request id"],
)
def test_outcome_is_created_if_the_audit_event_has_the_same_request_id(
    session: Session, first: Source, second: Source, expected: Outcome
) -> None:
    ensured_by(session, first)

    recovered = recover_lost_commit(session, ensured_by(session, second), second)

    assert recovered.outcome == expected


def test_created_outcome_is_returned_unchanged(session: Session) -> None:
    created = ensured_by(session, REQUEST)

    assert recover_lost_commit(session, created, REQUEST) is created
