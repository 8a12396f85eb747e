"""A verified look-alike of an address matches nothing; another spelling of it is equal."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import Mentorado, User
from models.people import Role, Turma
from provisioning.admin_actions import edit
from provisioning.audit import Source
from provisioning.ensure import Outcome, ensure
from provisioning.errors import MentoradoExistsError
from provisioning.imports import preview_list
from provisioning.preregistration import Verdict, pre_register, register_all
from provisioning.rules import Rules
from sweep import batches, missing_users
from sweep.batches import link_group
from sweep.sweeper import Sweeper
from tests.support.users import NOW, PAGE
from web.csv_import import read_list
from web.services import Services

# Pairs of a registered address and the one that another user has verified. The locale of the test
# databases lowers İ and the Kelvin sign to ASCII letters.
LOOK_ALIKES = [
    ("ana@github.com", "ana@gİthub.com"),
    ("ana@github.com", "ana@gıthub.com"),
    ("ana@github.com", "ana@gi\u0307thub.com"),
    ("ana@github.com", "ａna@github.com"),
    ("ana@github.com", "ana@ｇithub.com"),
    ("ana@github.com", "ana@github。com"),
    ("kate@x.com", "\u212aate@x.com"),
    ("rosa@x.com", "roſa@x.com"),
    ("fina@x.com", "ﬁna@x.com"),
    ("ana2@x.com", "ana²@x.com"),
    ("ana@fass.de", "ana@faß.de"),
    ("éva@x.com", "Éva@x.com"),
    ("ana@github.com", "ana@github.com."),
]
SPELLINGS = [
    ("josé@açaí.com", "jose\u0301@xn--aa-4iaz.com"),
    ("ana@xn--bcher-kva.de", "ANA@bücher.de"),
    ("ana@faß.de", "ana@xn--fa-hia.de"),
    ("Ana@GitHub.com", "ana@github.com"),
    ("ana@paral·lel.cat", "ana@xn--parallel-koa.cat"),
]
look_alikes = pytest.mark.parametrize(("registered", "verified"), LOOK_ALIKES, ids=ascii)
spellings = pytest.mark.parametrize(("registered", "verified"), SPELLINGS, ids=ascii)
ADMIN = Source("admin", "req-1")


def add_pre_registered(session: Session, address: str) -> Mentorado:
    """A pre-registered profile."""
    profile = Mentorado(nome_completo="Ana", email=address, turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


def add_user(session: Session, address: str) -> User:
    """A user who has verified the address and has no profile."""
    user = User(clerk_id="user_other", email=address, email_verified=True)
    session.add(user)
    session.commit()
    return user


def owner_of(session: Session, profile: Mentorado) -> int | None:
    session.expire_all()
    return session.scalars(select(Mentorado.user_id).where(Mentorado.id == profile.id)).one()


def ensured(session: Session, address: str, rules: Rules = Rules()) -> Outcome:  # noqa: B008
    identity = Identity("user_other", "Ana", address, email_verified=True)
    return ensure(session, identity, source=PAGE, now=NOW, rules=rules).outcome


@look_alikes
def test_login_does_not_link_the_profile_of_a_look_alike(
    session: Session, registered: str, verified: str
) -> None:
    profile = add_pre_registered(session, registered)

    assert ensured(session, verified) is Outcome.CREATED
    assert owner_of(session, profile) is None


@spellings
def test_login_links_the_profile_of_another_spelling(
    session: Session, registered: str, verified: str
) -> None:
    profile = add_pre_registered(session, registered)

    assert ensured(session, verified) is Outcome.LINKED
    assert owner_of(session, profile) is not None


@look_alikes
def test_look_alike_is_not_invited(session: Session, registered: str, verified: str) -> None:
    add_pre_registered(session, registered)

    assert ensured(session, verified, Rules(invited_only=True)) is Outcome.DENIED


@look_alikes
def test_sweep_group_does_not_link_a_look_alike(
    session: Session, registered: str, verified: str
) -> None:
    add_pre_registered(session, registered)
    add_user(session, verified)

    assert link_group(session, ["user_other"], Rules()) == []


@spellings
def test_sweep_group_links_another_spelling(
    session: Session, registered: str, verified: str
) -> None:
    profile = add_pre_registered(session, registered)
    user = add_user(session, verified)

    links = link_group(session, ["user_other"], Rules())

    assert [(link.user_id, link.mentorado_id) for link in links] == [(user.id, profile.id)]


@look_alikes
def test_sweep_range_creates_a_profile_for_a_look_alike(
    session: Session, registered: str, verified: str
) -> None:
    profile = add_pre_registered(session, registered)
    user = add_user(session, verified)

    assert batches.create_range(session, (user.id - 1, user.id)) == 1
    assert owner_of(session, profile) is None


@spellings
def test_sweep_range_detects_a_pre_registered_profile(
    session: Session, registered: str, verified: str
) -> None:
    add_pre_registered(session, registered)
    user = add_user(session, verified)

    with pytest.raises(batches.ContendedError):
        batches.create_range(session, (user.id - 1, user.id))
    assert missing_users.count_range(session, (user.id - 1, user.id)) == 0


@pytest.mark.parametrize(
    ("registered", "verified", "is_linked"),
    [(*LOOK_ALIKES[3], False), (*LOOK_ALIKES[0], False), (*SPELLINGS[0], True)],
    ids=ascii,
)
def test_sweep_links_spellings_but_not_look_alikes(
    session: Session, services: Services, registered: str, verified: str, is_linked: bool
) -> None:
    profile = add_pre_registered(session, registered)
    user = add_user(session, verified)

    Sweeper(services.provisioning).start("cli")

    assert owner_of(session, profile) == (user.id if is_linked else None)


@look_alikes
def test_registration_of_a_look_alike_is_new(
    session: Session, registered: str, verified: str
) -> None:
    add_pre_registered(session, verified)
    add_user(session, verified)

    values = {"nome_completo": "Ana", "email": registered}
    assert pre_register(session, values, source=ADMIN, now=NOW).verdict is Verdict.NEW


@spellings
def test_registration_of_another_spelling_exists(
    session: Session, registered: str, verified: str
) -> None:
    profile = add_pre_registered(session, registered)

    with pytest.raises(MentoradoExistsError) as caught:
        pre_register(session, {"nome_completo": "Ana", "email": verified}, source=ADMIN, now=NOW)
    assert caught.value.mentorado_id == profile.id


@spellings
def test_registration_of_the_address_of_an_owned_profile_exists(
    session: Session, registered: str, verified: str
) -> None:
    owner = add_user(session, "owner@example.com")
    profile = add_pre_registered(session, registered)
    profile.user_id = owner.id
    session.commit()

    with pytest.raises(MentoradoExistsError) as caught:
        pre_register(session, {"nome_completo": "Ana", "email": verified}, source=ADMIN, now=NOW)
    assert caught.value.mentorado_id == profile.id


@spellings
def test_edit_to_another_spelling_of_a_used_address_is_refused(
    session: Session, registered: str, verified: str
) -> None:
    existing, other = (
        add_pre_registered(session, registered),
        add_pre_registered(session, "other@example.com"),
    )

    with pytest.raises(MentoradoExistsError) as caught:
        edit(session, other.id, changes={"email": verified}, source=ADMIN, now=NOW)
    assert caught.value.mentorado_id == existing.id


def test_import_distinguishes_look_alikes_from_spellings(session: Session) -> None:
    add_pre_registered(session, "ana@github.com")
    add_pre_registered(session, "josé@açaí.com")
    add_user(session, "eva@gİthub.com")
    addresses = (
        "ａna@github.com",
        "jose\u0301@xn--aa-4iaz.com",
        "eva@github.com",
        "EVA@github.com",
    )
    content = "nome;e-mail\n" + "\n".join(f"Ana;{address}" for address in addresses)
    lines = read_list(content).lines

    results = preview_list(session, lines)
    values = [line.values for line in lines[:3] if line.values]
    outcomes = register_all(session, values, source=ADMIN, now=NOW)

    verdicts = [result.verdict for result in results]
    assert verdicts == [
        Verdict.NEW,
        Verdict.EXISTS,
        Verdict.NEW,
        Verdict.REPEATED,
    ]
    assert [outcome.verdict.value for outcome in outcomes] == verdicts[:3]


@look_alikes
def test_look_alike_of_a_listed_address_is_no_admin(
    session: Session, registered: str, verified: str
) -> None:
    rules = Rules(admin_emails=frozenset({registered.lower()}))

    assert ensured(session, verified, rules) is Outcome.CREATED
    assert session.scalars(select(User.role)).one() is Role.USER
