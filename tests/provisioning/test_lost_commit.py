"""Whose work is the profile that a second try finds?"""

import pytest
from sqlalchemy.orm import Session

from provisioning.audit import Source
from provisioning.ensure import EnsureResult, Outcome, ensure, recover_lost_commit
from provisioning.rules import Rules
from tests.support.users import BOB, NOW, identity_of

OURS, ANOTHER, NAMELESS = Source("api", "req-1"), Source("api", "req-2"), Source("sweep")


def ensured_by(session: Session, source: Source) -> EnsureResult:
    return ensure(session, identity_of(BOB), source=source, now=NOW, rules=Rules())


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (OURS, OURS, Outcome.CREATED),
        (ANOTHER, OURS, Outcome.EXISTING),
        (NAMELESS, NAMELESS, Outcome.EXISTING),
    ],
    ids=["ours", "another's", "nobody's"],
)
def test_profile_is_ours_if_the_record_says_so(
    session: Session, first: Source, second: Source, told: Outcome
) -> None:
    ensured_by(session, first)

    found = recover_lost_commit(session, ensured_by(session, second), second)

    assert found.outcome == told


def test_what_a_try_did_itself_needs_no_record(session: Session) -> None:
    created = ensured_by(session, OURS)

    assert recover_lost_commit(session, created, OURS) is created
