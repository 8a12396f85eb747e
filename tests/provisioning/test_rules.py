"""Each branch of the decision about a user's profile, and properties of all branches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.errors import Denial
from provisioning.rules import Action, Decision, DecisionFacts, Rules, decide

OPEN = Rules()
OFF = Rules(auto_create=False)
INVITED = Rules(invited_only=True)

KEEP = Decision(Action.KEEP)
CREATE = Decision(Action.CREATE)
EXEMPT = Decision(Action.EXEMPT)
BLOCKED = Decision(Action.DENY, denial=Denial.USER_BLOCKED)
AUTO_CREATE_OFF = Decision(Action.DENY, denial=Denial.AUTO_CREATE_DISABLED)
NOT_INVITED = Decision(Action.DENY, denial=Denial.NOT_INVITED)

NO_FACTS = DecisionFacts()
ONE_MATCH = DecisionFacts(matches=(7,))
TWO_MATCHES = DecisionFacts(matches=(7, 8))
UNTOUCHED = DecisionFacts(has_profile=True, is_untouched=True)

FACTS = st.builds(
    DecisionFacts,
    is_blocked=st.booleans(),
    is_admin=st.booleans(),
    has_profile=st.booleans(),
    is_untouched=st.booleans(),
    matches=st.lists(st.integers(1, 99), max_size=3, unique=True).map(tuple),
)
RULES = st.builds(Rules, auto_create=st.booleans(), invited_only=st.booleans())


@pytest.mark.parametrize(
    ("facts", "rules", "expected"),
    [
        pytest.param(DecisionFacts(is_blocked=True), OPEN, BLOCKED, id="blocked without profile"),
        pytest.param(
            DecisionFacts(is_blocked=True, has_profile=True),
            OPEN,
            BLOCKED,
            id="blocked with profile",
        ),
        pytest.param(
            DecisionFacts(is_blocked=True, matches=(7,)), OPEN, BLOCKED, id="blocked does not link"
        ),
        pytest.param(
            DecisionFacts(is_blocked=True, is_admin=True),
            OPEN,
            BLOCKED,
            id="blocked admin not exempt",
        ),
        pytest.param(DecisionFacts(has_profile=True), OPEN, KEEP, id="own profile kept"),
        pytest.param(
            DecisionFacts(has_profile=True), OFF, KEEP, id="own kept with auto-create off"
        ),
        pytest.param(
            DecisionFacts(has_profile=True), INVITED, KEEP, id="own kept without invitation"
        ),
        pytest.param(
            DecisionFacts(has_profile=True, is_admin=True), OPEN, KEEP, id="admin keeps own profile"
        ),
        pytest.param(UNTOUCHED, OPEN, KEEP, id="untouched without match kept"),
        pytest.param(
            DecisionFacts(has_profile=True, is_untouched=True, matches=(7,)),
            OPEN,
            Decision(Action.CLAIM, 7),
            id="untouched claims the one match",
        ),
        pytest.param(
            DecisionFacts(has_profile=True, is_untouched=True, matches=(7,)),
            OFF,
            Decision(Action.CLAIM, 7),
            id="untouched claims with auto-create off",
        ),
        pytest.param(
            DecisionFacts(has_profile=True, matches=(7,)), OPEN, KEEP, id="touched never claims"
        ),
        pytest.param(
            DecisionFacts(has_profile=True, is_untouched=True, matches=(7, 8)),
            OPEN,
            KEEP,
            id="ambiguous never claims",
        ),
        pytest.param(DecisionFacts(is_admin=True), OPEN, EXEMPT, id="admin exempt"),
        pytest.param(
            DecisionFacts(is_admin=True, matches=(7,)), OPEN, EXEMPT, id="admin links nothing"
        ),
        pytest.param(ONE_MATCH, OPEN, Decision(Action.LINK, 7), id="one match links"),
        pytest.param(ONE_MATCH, OFF, Decision(Action.LINK, 7), id="links with auto-create off"),
        pytest.param(ONE_MATCH, INVITED, Decision(Action.LINK, 7), id="invited links"),
        pytest.param(TWO_MATCHES, OPEN, CREATE, id="ambiguous never links"),
        pytest.param(TWO_MATCHES, OFF, AUTO_CREATE_OFF, id="ambiguous with auto-create off"),
        pytest.param(TWO_MATCHES, INVITED, CREATE, id="ambiguous is invited too"),
        pytest.param(NO_FACTS, OPEN, CREATE, id="new user"),
        pytest.param(NO_FACTS, OFF, AUTO_CREATE_OFF, id="new user with auto-create off"),
        pytest.param(NO_FACTS, INVITED, NOT_INVITED, id="new user not invited"),
        pytest.param(
            NO_FACTS,
            Rules(auto_create=False, invited_only=True),
            AUTO_CREATE_OFF,
            id="off comes first",
        ),
    ],
)
def test_first_matching_rule_decides(
    facts: DecisionFacts, rules: Rules, expected: Decision
) -> None:
    assert decide(facts, rules) == expected


@pytest.mark.parametrize(
    ("matches", "only", "is_ambiguous"),
    [((), None, False), ((7,), 7, False), ((7, 8), None, True)],
    ids=["none", "one", "two"],
)
def test_several_matches_are_ambiguous_and_match_nothing(
    matches: tuple[int, ...], only: int | None, is_ambiguous: bool
) -> None:
    facts = DecisionFacts(matches=matches)

    assert (facts.only_match, facts.is_ambiguous) == (only, is_ambiguous)


@given(facts=FACTS, rules=RULES)
def test_only_a_single_match_is_linked_or_claimed(facts: DecisionFacts, rules: Rules) -> None:
    decision = decide(facts, rules)

    takes_match = decision.action in (Action.LINK, Action.CLAIM)
    assert takes_match == (decision.mentorado_id is not None)
    assert not takes_match or facts.matches == (decision.mentorado_id,)


@given(facts=FACTS, rules=RULES)
def test_blocked_user_is_always_denied(facts: DecisionFacts, rules: Rules) -> None:
    denied_as_blocked = decide(facts, rules) == BLOCKED

    assert denied_as_blocked == facts.is_blocked


@given(facts=FACTS, rules=RULES)
def test_only_a_denial_has_a_denial_reason(facts: DecisionFacts, rules: Rules) -> None:
    decision = decide(facts, rules)

    assert (decision.action is Action.DENY) == (decision.denial is not None)


@given(facts=FACTS, rules=RULES)
def test_user_with_a_profile_gets_no_second_one(facts: DecisionFacts, rules: Rules) -> None:
    decision = decide(facts, rules)

    assert not (facts.has_profile and decision.action in (Action.CREATE, Action.LINK))
