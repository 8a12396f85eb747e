"""Whose work is the profile that a second try finds?"""

import pytest
from sqlalchemy.orm import Session

from provisioning.audit import Entry
from provisioning.ensure import Ensured, Outcome, ensure, recognised
from provisioning.rules import Rules
from tests.support.users import BOB, NOW, identity

OURS, ANOTHER, NAMELESS = Entry("api", "req-1"), Entry("api", "req-2"), Entry("sweep")


def ensured_by(session: Session, entry: Entry) -> Ensured:
    return ensure(session, identity(BOB), entry=entry, now=NOW, rules=Rules())


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
    session: Session, first: Entry, second: Entry, told: Outcome
) -> None:
    ensured_by(session, first)

    found = recognised(session, ensured_by(session, second), second)

    assert found.outcome == told


def test_what_a_try_did_itself_needs_no_record(session: Session) -> None:
    created = ensured_by(session, OURS)

    assert recognised(session, created, OURS) is created
