"""Merging two profiles is atomic and loses no row of any table."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Integer, bindparam, func, select, text
from sqlalchemy.orm import Session

from models import ArchivedRow, AuditEvent, Feedback, Mentorado, MetricaMensal, User
from models.people import Turma
from provisioning.audit import Source
from provisioning.errors import ConflictError, UnknownMentoradoError
from provisioning.merge import MergeResult, MergeSpec, Prefer, merge, preview
from tests.support.users import ALICE, BOB, NOW

BY_ADMIN = Source("admin", "req-1", actor_id=1)
FOREIGN = """
CREATE TABLE "Diário" (
    id serial PRIMARY KEY, "Mentorado" integer NOT NULL REFERENCES mentorados ON DELETE CASCADE,
    dia integer, UNIQUE ("Mentorado", dia));
CREATE TABLE um_por_pessoa (mentorado_id integer PRIMARY KEY REFERENCES mentorados, nota text);
CREATE TABLE soltos (mentorado_id integer REFERENCES mentorados ON DELETE SET NULL);
"""
TABLES = ('"Diário"', "um_por_pessoa", "soltos", "metricas_mensais", "feedbacks")


OwnedRows = tuple[list[int], list[int], bool, int]  # months, days, has a note, loose rows


@pytest.fixture
def pair(session: Session) -> tuple[int, int]:
    """The ids of the profile to delete and of the one to keep."""
    return add_profile(session, "Bia N."), add_profile(session, "Bia Nunes")


def add_profile(session: Session, name: str, **facts: Any) -> int:
    profile = Mentorado(nome_completo=name, turma=Turma.NEON, **facts)
    session.add(profile)
    session.flush()
    return profile.id


def add_month(session: Session, mentorado_id: int, mes: int, revenue: int) -> None:
    session.add(MetricaMensal(mentorado_id=mentorado_id, ano=2026, mes=mes, faturamento=revenue))
    session.flush()


def add_user(session: Session, clerk_id: str) -> int:
    user = User(clerk_id=clerk_id)
    session.add(user)
    session.flush()
    return user.id


def fill(session: Session, mentorado_id: int, owned_rows: OwnedRows) -> None:
    months, days, has_note, loose = owned_rows
    for mes in months:
        add_month(session, mentorado_id, mes, mes)
    rows = [
        *[('INSERT INTO "Diário" ("Mentorado", dia) VALUES (:m, :v)', day) for day in days],
        *[("INSERT INTO um_por_pessoa VALUES (:m, :v)", "nota")] * has_note,
        *[("INSERT INTO soltos SELECT :m WHERE :v > 0", 1)] * loose,
    ]
    for statement, value in rows:
        session.execute(text(statement), {"m": mentorado_id, "v": value})


def rows_of(session: Session, mentorado_id: int | None = None) -> int:
    columns = {'"Diário"': '"Mentorado"'}
    return sum(
        session.scalar(
            text(
                f"SELECT count(*) FROM {table}"
                f" WHERE :m IS NULL OR {columns.get(table, 'mentorado_id')} = :m"
            ).bindparams(bindparam("m", mentorado_id, Integer))
        )
        for table in TABLES
    )


def merge_pair(
    session: Session, pair: tuple[int, int], prefer: Prefer = Prefer.INTO
) -> MergeResult:
    spec = MergeSpec(*pair, prefer, "req-1")
    return merge(session, spec, source=BY_ADMIN, now=NOW)


def months_of(session: Session, mentorado_id: int) -> dict[int, int]:
    session.expire_all()
    rows = session.scalars(select(MetricaMensal).where(MetricaMensal.mentorado_id == mentorado_id))
    return {row.mes: row.faturamento for row in rows}


def test_months_and_feedback_move_to_the_kept_profile(
    session: Session, pair: tuple[int, int]
) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[1], 2, 200)
    texts = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}
    session.add(Feedback(mentorado_id=pair[0], ano=2026, mes=1, **texts))

    merged = merge_pair(session, pair)

    assert merged.moved == {"feedbacks": 1, "metricas_mensais": 1}
    assert months_of(session, pair[1]) == {1: 100, 2: 200}
    assert session.get(Mentorado, pair[0]) is None


@pytest.mark.parametrize(
    ("prefer", "kept", "archived"), [(Prefer.INTO, 200, 100), (Prefer.FROM, 100, 200)]
)
def test_preferred_row_of_the_same_month_is_kept_and_the_other_archived(
    session: Session, pair: tuple[int, int], prefer: Prefer, kept: int, archived: int
) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[1], 1, 200)

    [conflict] = merge_pair(session, pair, prefer).conflicts

    rows = select(ArchivedRow).where(ArchivedRow.table_name == "metricas_mensais")
    [row] = session.scalars(rows)
    assert months_of(session, pair[1]) == {1: kept}
    assert (conflict.kept["faturamento"], conflict.archived["faturamento"]) == (kept, archived)
    assert (row.content["faturamento"], row.request_id) == (archived, "req-1")


def test_deleted_profile_is_archived(session: Session, pair: tuple[int, int]) -> None:
    merge_pair(session, pair)

    [row] = session.scalars(select(ArchivedRow))
    assert (row.table_name, row.mentorado_id, row.kept_mentorado_id) == ("mentorados", *pair)
    assert row.content["nome_completo"] == "Bia N."


def test_missing_owner_address_and_photo_are_taken_from_the_deleted_profile(
    session: Session,
) -> None:
    owner = add_user(session, BOB.clerk_id)
    photo = "https://x.example/b.png"
    source = add_profile(session, "Bob", user_id=owner, email=BOB.email, foto_url=photo)
    target = add_profile(session, "Bob Lima", email="b@example.com")

    merged = merge_pair(session, (source, target))

    kept = merged.mentorado
    assert (kept.user_id, kept.email, kept.foto_url) == (owner, "b@example.com", photo)
    assert merged.clerk_ids == [BOB.clerk_id]


def test_owner_of_the_kept_profile_keeps_it(session: Session, pair: tuple[int, int]) -> None:
    owner = add_user(session, BOB.clerk_id)
    session.get_one(Mentorado, pair[1]).user_id = owner
    session.flush()

    assert merge_pair(session, pair).mentorado.user_id == owner


def test_merge_writes_an_audit_event(session: Session, pair: tuple[int, int]) -> None:
    add_month(session, pair[0], 1, 100)

    merge_pair(session, pair)

    [event] = session.scalars(select(AuditEvent))
    assert (event.mentorado_id, event.actor_id, event.request_id) == (pair[1], 1, "req-1")
    assert event.details == {
        "action": "merge",
        "merged_mentorado_id": pair[0],
        "moved": {"metricas_mensais": 1},
        "archived": 0,
    }


def test_profiles_of_two_users_are_not_merged(session: Session, pair: tuple[int, int]) -> None:
    for mentorado_id, user in zip(pair, (ALICE, BOB), strict=True):
        owner = add_user(session, user.clerk_id)
        session.get_one(Mentorado, mentorado_id).user_id = owner
    session.flush()

    with pytest.raises(ConflictError, match="both profiles"):
        merge_pair(session, pair)


def test_merge_into_itself_or_into_an_unknown_profile_is_refused(
    session: Session, pair: tuple[int, int]
) -> None:
    with pytest.raises(ConflictError, match="into itself"):
        merge_pair(session, (pair[0], pair[0]))
    with pytest.raises(UnknownMentoradoError):
        merge_pair(session, (pair[0], 2_147_483_647))


def test_preview_returns_the_result_and_changes_nothing(
    session: Session, pair: tuple[int, int]
) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[0], 2, 150)
    add_month(session, pair[1], 1, 200)

    previewed = preview(session, MergeSpec(*pair, Prefer.INTO), source=BY_ADMIN, now=NOW)

    assert (previewed.moved, len(previewed.conflicts)) == ({"metricas_mensais": 1}, 1)
    assert months_of(session, pair[0]) == {1: 100, 2: 150}
    assert [session.scalars(select(t)).all() for t in (ArchivedRow, AuditEvent)] == [[], []]


@pytest.fixture
def foreign(session: Session) -> None:
    """Tables that the models do not contain."""
    session.execute(text(FOREIGN))


@pytest.mark.usefixtures("foreign")
def test_rows_of_unknown_tables_move_too(session: Session, pair: tuple[int, int]) -> None:
    for statement in (
        'INSERT INTO "Diário" ("Mentorado", dia) VALUES (:a, 1), (:a, 2), (:b, 2)',
        "INSERT INTO um_por_pessoa VALUES (:a, 'fica'), (:b, 'vai')",
        "INSERT INTO soltos VALUES (:a), (:a), (:b)",
    ):
        session.execute(text(statement), {"a": pair[0], "b": pair[1]})

    merged = merge_pair(session, pair, Prefer.FROM)

    assert merged.moved == {'"Diário"': 2, "soltos": 2, "um_por_pessoa": 1}
    assert session.scalar(text("SELECT nota FROM um_por_pessoa")) == "fica"
    assert sorted(c.table for c in merged.conflicts) == ['"Diário"', "um_por_pessoa"]


@pytest.mark.usefixtures("foreign")
def test_conflicting_row_that_is_referenced_stops_the_merge(
    session: Session, pair: tuple[int, int]
) -> None:
    rows = 'INSERT INTO "Diário" (id, "Mentorado", dia) VALUES (1, :a, 1), (2, :b, 1)'
    session.execute(text(rows), {"a": pair[0], "b": pair[1]})
    session.execute(
        text(
            'CREATE TABLE linhas (diario integer REFERENCES "Diário" ON DELETE CASCADE);'
            "INSERT INTO linhas VALUES (1)"
        )
    )

    with pytest.raises(ConflictError, match="linhas"):
        merge_pair(session, pair)

    assert session.scalar(text("SELECT count(*) FROM linhas")) == 1


@pytest.mark.usefixtures("foreign")
def test_unique_index_on_an_expression_stops_the_merge(
    session: Session, pair: tuple[int, int]
) -> None:
    session.execute(text("CREATE UNIQUE INDEX odd ON soltos ((mentorado_id + 0))"))
    session.execute(text("INSERT INTO soltos VALUES (:a), (:b)"), {"a": pair[0], "b": pair[1]})

    with pytest.raises(ConflictError, match="odd"):
        merge_pair(session, pair)


DAYS = st.lists(st.integers(1, 12), max_size=6, unique=True)


@pytest.mark.usefixtures("foreign")
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example is rolled back
)
@given(
    deleted_rows=st.tuples(DAYS, DAYS, st.booleans(), st.integers(0, 3)),
    kept_rows=st.tuples(DAYS, DAYS, st.booleans(), st.integers(0, 3)),
    prefer=st.sampled_from(Prefer),
)
def test_no_row_of_any_table_is_lost(
    session: Session, deleted_rows: OwnedRows, kept_rows: OwnedRows, prefer: Prefer
) -> None:
    with session.begin_nested() as example:
        pair = add_profile(session, "a"), add_profile(session, "b")
        for mentorado_id, owned_rows in zip(pair, (deleted_rows, kept_rows), strict=True):
            fill(session, mentorado_id, owned_rows)
        before = rows_of(session)

        merge_pair(session, pair, prefer)

        archived = select(func.count()).where(ArchivedRow.table_name != "mentorados")
        assert rows_of(session) + session.scalars(archived).one() == before
        assert rows_of(session, pair[1]) == rows_of(session)
        example.rollback()
