"""Two profiles become one: nothing is lost, in whatever table, and it is all or nothing."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Integer, bindparam, func, select, text
from sqlalchemy.orm import Session

from models import ArchivedRow, AuditEvent, Feedback, Mentorado, MetricaMensal, User
from models.mentorado import Turma
from provisioning.admin_actions import ConflictError, UnknownMentoradoError
from provisioning.audit import Source
from provisioning.merge import MergeResult, merge, preview
from provisioning.merge_rows import MergeSpec, Prefer
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


Belongings = tuple[list[int], list[int], bool, int]  # months, days, a note, loose rows


@pytest.fixture
def pair(session: Session) -> tuple[int, int]:
    """The profile that goes and the one that stays."""
    return add_profile(session, "Bia N."), add_profile(session, "Bia Nunes")


def add_profile(session: Session, name: str, **facts: Any) -> int:
    profile = Mentorado(nome_completo=name, turma=Turma.NEON, **facts)
    session.add(profile)
    session.flush()  # the ids are what this is about
    return profile.id


def add_month(session: Session, mentorado_id: int, mes: int, revenue: int) -> None:
    session.add(MetricaMensal(mentorado_id=mentorado_id, ano=2026, mes=mes, faturamento=revenue))
    session.flush()  # before the merge looks for it


def add_user(session: Session, clerk_id: str) -> int:
    user = User(clerk_id=clerk_id)
    session.add(user)
    session.flush()  # profiles need the id
    return user.id


def fill(session: Session, mentorado_id: int, belongings: Belongings) -> None:
    months, days, has_note, loose = belongings
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


def join(session: Session, pair: tuple[int, int], prefer: Prefer = Prefer.INTO) -> MergeResult:
    journey = MergeSpec(*pair, prefer, "req-1")
    return merge(session, journey, source=BY_ADMIN, now=NOW)


def months_of(session: Session, mentorado_id: int) -> dict[int, int]:
    session.expire_all()
    rows = session.scalars(select(MetricaMensal).where(MetricaMensal.mentorado_id == mentorado_id))
    return {row.mes: row.faturamento for row in rows}


def test_months_and_feedback_move_over(session: Session, pair: tuple[int, int]) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[1], 2, 200)
    words = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}
    session.add(Feedback(mentorado_id=pair[0], ano=2026, mes=1, **words))

    merged = join(session, pair)

    assert merged.moved == {"feedbacks": 1, "metricas_mensais": 1}
    assert months_of(session, pair[1]) == {1: 100, 2: 200}
    assert session.get(Mentorado, pair[0]) is None


@pytest.mark.parametrize(
    ("prefer", "kept", "archived"), [(Prefer.INTO, 200, 100), (Prefer.FROM, 100, 200)]
)
def test_same_month_is_decided_and_the_other_row_stays_in_the_archive(
    session: Session, pair: tuple[int, int], prefer: Prefer, kept: int, archived: int
) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[1], 1, 200)

    [clash] = join(session, pair, prefer).conflicts

    rows = select(ArchivedRow).where(ArchivedRow.table_name == "metricas_mensais")
    [row] = session.scalars(rows)
    assert months_of(session, pair[1]) == {1: kept}
    assert (clash.kept["faturamento"], clash.archived["faturamento"]) == (kept, archived)
    assert (row.content["faturamento"], row.request_id) == (archived, "req-1")


def test_profile_that_goes_stays_in_the_archive(session: Session, pair: tuple[int, int]) -> None:
    join(session, pair)

    [row] = session.scalars(select(ArchivedRow))
    assert (row.table_name, row.mentorado_id, row.kept_mentorado_id) == ("mentorados", *pair)
    assert row.content["nome_completo"] == "Bia N."


def test_owner_address_and_photo_are_taken_over_where_there_is_none(session: Session) -> None:
    owner = add_user(session, BOB.clerk_id)
    photo = "https://x.example/b.png"
    source = add_profile(session, "Bob", user_id=owner, email=BOB.email, foto_url=photo)
    target = add_profile(session, "Bob Lima", email="b@example.com")

    merged = join(session, (source, target))

    kept = merged.mentorado
    assert (kept.user_id, kept.email, kept.foto_url) == (owner, "b@example.com", photo)
    assert merged.clerk_ids == (BOB.clerk_id,)


def test_owner_of_the_kept_profile_keeps_it(session: Session, pair: tuple[int, int]) -> None:
    owner = add_user(session, BOB.clerk_id)
    session.get_one(Mentorado, pair[1]).user_id = owner
    session.flush()  # before the merge asks who it is

    assert join(session, pair).mentorado.user_id == owner


def test_merge_is_on_record(session: Session, pair: tuple[int, int]) -> None:
    add_month(session, pair[0], 1, 100)

    join(session, pair)

    [event] = session.scalars(select(AuditEvent))
    assert (event.mentorado_id, event.actor_id, event.request_id) == (pair[1], 1, "req-1")
    assert event.details == {
        "action": "merge",
        "merged_mentorado_id": pair[0],
        "moved": {"metricas_mensais": 1},
        "archived": 0,
    }


def test_profiles_of_two_people_are_not_merged(session: Session, pair: tuple[int, int]) -> None:
    for mentorado_id, person in zip(pair, (ALICE, BOB), strict=True):
        owner = add_user(session, person.clerk_id)
        session.get_one(Mentorado, mentorado_id).user_id = owner
    session.flush()  # before the merge asks who they are

    with pytest.raises(ConflictError, match="both profiles"):
        join(session, pair)


def test_profile_is_not_merged_into_itself_or_into_nothing(
    session: Session, pair: tuple[int, int]
) -> None:
    with pytest.raises(ConflictError, match="into itself"):
        join(session, (pair[0], pair[0]))
    with pytest.raises(UnknownMentoradoError):
        join(session, (pair[0], 2_147_483_647))


def test_preview_tells_what_would_happen_and_leaves_everything(
    session: Session, pair: tuple[int, int]
) -> None:
    add_month(session, pair[0], 1, 100)
    add_month(session, pair[0], 2, 150)
    add_month(session, pair[1], 1, 200)

    seen = preview(session, MergeSpec(*pair, Prefer.INTO), source=BY_ADMIN, now=NOW)

    assert (seen.moved, len(seen.conflicts)) == ({"metricas_mensais": 1}, 1)
    assert months_of(session, pair[0]) == {1: 100, 2: 150}
    assert [session.scalars(select(t)).all() for t in (ArchivedRow, AuditEvent)] == [[], []]


@pytest.fixture
def foreign(session: Session) -> None:
    """Tables that this program has never heard of."""
    session.execute(text(FOREIGN))


@pytest.mark.usefixtures("foreign")
def test_tables_that_we_do_not_know_move_too(session: Session, pair: tuple[int, int]) -> None:
    for statement in (
        'INSERT INTO "Diário" ("Mentorado", dia) VALUES (:a, 1), (:a, 2), (:b, 2)',
        "INSERT INTO um_por_pessoa VALUES (:a, 'fica'), (:b, 'vai')",
        "INSERT INTO soltos VALUES (:a), (:a), (:b)",
    ):
        session.execute(text(statement), {"a": pair[0], "b": pair[1]})

    merged = join(session, pair, Prefer.FROM)

    assert merged.moved == {'"Diário"': 2, "soltos": 2, "um_por_pessoa": 1}
    assert session.scalar(text("SELECT nota FROM um_por_pessoa")) == "fica"
    assert sorted(c.table for c in merged.conflicts) == ['"Diário"', "um_por_pessoa"]


@pytest.mark.usefixtures("foreign")
def test_row_that_something_hangs_on_is_not_archived(
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
        join(session, pair)

    assert session.scalar(text("SELECT count(*) FROM linhas")) == 1


@pytest.mark.usefixtures("foreign")
def test_rule_that_is_no_list_of_columns_stops_the_merge(
    session: Session, pair: tuple[int, int]
) -> None:
    session.execute(text("CREATE UNIQUE INDEX odd ON soltos ((mentorado_id + 0))"))
    session.execute(text("INSERT INTO soltos VALUES (:a), (:b)"), {"a": pair[0], "b": pair[1]})

    with pytest.raises(ConflictError, match="odd"):
        join(session, pair)


DAYS = st.lists(st.integers(1, 12), max_size=6, unique=True)


@pytest.mark.usefixtures("foreign")
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example is taken back
)
@given(
    theirs=st.tuples(DAYS, DAYS, st.booleans(), st.integers(0, 3)),
    ours=st.tuples(DAYS, DAYS, st.booleans(), st.integers(0, 3)),
    prefer=st.sampled_from(Prefer),
)
def test_no_row_of_any_table_is_ever_lost(
    session: Session, theirs: Belongings, ours: Belongings, prefer: Prefer
) -> None:
    with session.begin_nested() as example:
        pair = add_profile(session, "a"), add_profile(session, "b")
        for mentorado_id, belongings in zip(pair, (theirs, ours), strict=True):
            fill(session, mentorado_id, belongings)
        before = rows_of(session)

        join(session, pair, prefer)

        archived = select(func.count()).where(ArchivedRow.table_name != "mentorados")
        assert rows_of(session) + session.scalars(archived).one() == before
        assert rows_of(session, pair[1]) == rows_of(session)
        example.rollback()
