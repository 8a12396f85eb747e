"""What belongs to one person is united in one transaction."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ArchivedRow, AuditEvent, Feedback, Mentorado, MetricaMensal, User
from models.people import Turma
from provisioning.admin_actions import allow
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError
from provisioning.merge import Prefer
from provisioning.same_person import (
    AccountOrProfile,
    address_to_use,
    find_candidates,
    load_account,
    load_profile,
    merge_same_person,
)
from tests.support.users import NOW

SOURCE = Source("admin", "req-merge_same_person", actor_id=1)


def add_account(session: Session, name: str, **columns: Any) -> User:
    values = {"clerk_id": f"user_{name}", "name": name, "email": f"{name}@example.com", **columns}
    user = User(**values)
    session.add(user)
    session.flush()  # a profile needs the id
    return user


def add_profile(session: Session, name: str, *months: int, **columns: Any) -> Mentorado:
    profile = Mentorado(nome_completo=name, turma=Turma.NEON, **columns)
    session.add(profile)
    session.flush()  # the months need the id
    session.add_all(
        MetricaMensal(mentorado_id=profile.id, ano=2026, mes=mes, faturamento=mes * 1_000)
        for mes in months
    )
    session.flush()
    return profile


def unite_users(session: Session, kept: User, other: User, **options: Any) -> list[str]:
    sides = load_account(session, kept.id), load_account(session, other.id)
    return list(merge_same_person(session, *sides, source=SOURCE, now=NOW, **options).clerk_ids)


def months_of(session: Session, profile: Mentorado) -> dict[int, int]:
    rows = session.scalars(select(MetricaMensal).where(MetricaMensal.mentorado_id == profile.id))
    return {row.mes: row.faturamento for row in rows}


def test_two_accounts_with_data_become_one(session: Session) -> None:
    kept, other = add_account(session, "bia", email_verified=True), add_account(session, "bia2")
    profile = add_profile(session, "Bia", 1, 2, user_id=kept.id, edited_at=NOW)
    second = add_profile(session, "Bia N.", 2, 3, user_id=other.id, edited_at=NOW)
    texts = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}
    session.add(Feedback(mentorado_id=second.id, ano=2026, mes=3, **texts))
    session.flush()

    affected = unite_users(session, kept, other)

    session.expire_all()
    archived = session.scalars(select(ArchivedRow.table_name).order_by(ArchivedRow.id)).all()
    assert affected == ["user_bia", "user_bia2"]
    assert months_of(session, profile) == {1: 1_000, 2: 2_000, 3: 3_000}
    assert session.scalars(select(Feedback.mentorado_id)).all() == [profile.id]
    assert session.scalars(select(Mentorado.user_id)).all() == [kept.id]
    assert sorted(archived) == ["mentorados", "metricas_mensais"]
    assert (other.blocked_at, other.same_person_as) == (NOW, kept.id)
    assert address_to_use(session, "user_bia2") == "bi•••@example.com"
    assert address_to_use(session, "user_bia") is None


def test_months_of_the_other_account_can_be_preferred(session: Session) -> None:
    kept, other = add_account(session, "bia"), add_account(session, "bia2")
    profile = add_profile(session, "Bia", user_id=kept.id, edited_at=NOW)
    session.add(MetricaMensal(mentorado_id=profile.id, ano=2026, mes=2, faturamento=1))
    add_profile(session, "Bia N.", 2, user_id=other.id, edited_at=NOW)

    unite_users(session, kept, other, prefer=Prefer.FROM)

    session.expire_all()
    assert months_of(session, profile) == {2: 2_000}


def test_profile_of_the_other_account_goes_to_an_account_without_one(session: Session) -> None:
    kept, other = add_account(session, "bia", email_verified=True), add_account(session, "bia2")
    profile = add_profile(session, "Bia N.", 2, user_id=other.id, edited_at=NOW)

    unite_users(session, kept, other)

    session.expire_all()
    assert (profile.user_id, months_of(session, profile)) == (kept.id, {2: 2_000})


def test_pre_registered_profile_replaces_an_untouched_automatic_one(session: Session) -> None:
    kept = add_account(session, "bia", email_verified=True)
    add_profile(session, "bia", user_id=kept.id, created_automatically=True)
    waiting = add_profile(session, "Beatriz Nunes", meta_leads=99)
    sides = load_account(session, kept.id), load_profile(session, waiting.id)

    merge_same_person(session, *sides, source=SOURCE, now=NOW)

    session.expire_all()
    [left] = session.scalars(select(Mentorado))
    assert (left.id, left.user_id, left.nome_completo, left.meta_leads) == (
        waiting.id,
        kept.id,
        "Beatriz Nunes",
        99,
    )


def test_two_pre_registered_profiles_become_one(session: Session) -> None:
    first, second = add_profile(session, "Bia", 1), add_profile(session, "Bia Nunes", 2)
    sides = load_profile(session, first.id), load_profile(session, second.id)

    merge_same_person(session, *sides, source=SOURCE, now=NOW)

    session.expire_all()
    assert session.scalars(select(Mentorado.id)).all() == [first.id]
    assert months_of(session, first) == {1: 1_000, 2: 2_000}


def test_unverified_address_of_the_closed_account_is_not_kept(session: Session) -> None:
    kept, other = add_account(session, "bia"), add_account(session, "stranger")
    profile = add_profile(
        session, "Bia", user_id=other.id, email=other.email, created_automatically=True,
        edited_at=NOW,
    )  # fmt: skip

    unite_users(session, kept, other)

    session.expire_all()
    assert (profile.user_id, profile.email) == (kept.id, None)


def test_union_is_recorded_and_ends_when_the_account_is_allowed_again(session: Session) -> None:
    kept, other = add_account(session, "bia"), add_account(session, "bia2")

    unite_users(session, kept, other)
    allow(session, other.id, source=SOURCE)

    [union, _] = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
    assert (union.user_id, union.details) == (
        kept.id,
        {"action": "same_person", "other_user_id": other.id},
    )
    assert address_to_use(session, "user_bia2") is None


@pytest.mark.parametrize(
    ("kept_columns", "other_id", "conflict"),
    [
        ({"deleted_at": NOW}, 2, Conflict.DELETED_ACCOUNT),
        ({"blocked_at": NOW}, 2, Conflict.KEPT_BLOCKED),
        ({}, 1, Conflict.OWN_ACCOUNT),
    ],
)
def test_union_that_would_harm_is_refused(
    session: Session, kept_columns: dict[str, Any], other_id: int, conflict: Conflict
) -> None:
    kept = add_account(session, "bia", id=3, **kept_columns)
    other = add_account(session, "bia2", id=other_id)

    with pytest.raises(ConflictError) as refused:
        unite_users(session, kept, other)

    assert refused.value.kind is conflict
    assert (other.blocked_at, other.same_person_as) == (None, None)


def test_account_is_not_the_same_person_as_itself(session: Session) -> None:
    user = add_account(session, "bia")
    profile = add_profile(session, "Bia", user_id=user.id)
    sides = load_account(session, user.id), load_profile(session, profile.id)

    with pytest.raises(ConflictError):
        merge_same_person(session, *sides, source=SOURCE, now=NOW)


def test_candidates_have_the_same_address_or_the_same_name(session: Session) -> None:
    user = add_account(session, "Bia Nunes", email="bia@example.com")
    by_address = add_profile(session, "Beatriz", email="BIA@example.com")
    by_name = add_account(session, "Bia Nunes", clerk_id="user_2", email="outra@example.com")
    add_account(session, "Bia Melo", clerk_id="user_3")

    found = find_candidates(session, load_account(session, user.id))

    assert [(each.side.key, each.has_same_address) for each in found] == [
        ((None, by_address.id), True),
        ((by_name.id, None), False),
    ]
    assert isinstance(found[0].side, AccountOrProfile)
