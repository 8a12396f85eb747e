"""A deleted profile is restored with all its rows, of tables of any shape, within thirty days."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import ArchivedRow, AuditEvent, Mentorado, MetricaMensal, User
from models.people import Turma
from provisioning import admin_actions
from provisioning.audit import Source
from provisioning.deleted_profiles import (
    RESTORE_TIME,
    delete_old,
    list_deleted,
    remove,
    restore,
)
from provisioning.ensure import Outcome, ensure
from provisioning.errors import ConflictError, Denial, UnknownMentoradoError
from provisioning.rules import Rules
from tests.support.foreign_tables import SHAPES, add_row, create_tables, read_rows
from tests.support.users import ALICE, NOW, PAGE, identity_of

UNKNOWN_ID = 2_000_000_000
TABLES = ("metricas_mensais", "feedbacks")
# A tree of other tables below the months, with a cycle, and a table that keeps its rows.
TREE = """
    CREATE TABLE notas (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, anterior int
                        REFERENCES notas ON DELETE CASCADE, dobro int
                        GENERATED ALWAYS AS (valor * 2) STORED, valor int, mes int
                        REFERENCES metricas_mensais ON DELETE CASCADE, quando timestamptz);
    CREATE TABLE avisos (nota int REFERENCES notas ON DELETE SET NULL, texto text);
    INSERT INTO notas (valor, mes, quando) SELECT n, id, now() FROM metricas_mensais,
        generate_series(1, 3) n;
    UPDATE notas SET anterior = 4 - id WHERE id < 4;
    INSERT INTO avisos SELECT id, 'x' FROM notas;
"""


@pytest.fixture
def admin(session: Session) -> Source:
    """An admin with a row of their own, whose name is shown."""
    user = User(clerk_id="user_dona", name="Dona Admin")
    session.add(user)
    session.flush()
    return Source("admin", "req-1", actor_id=user.id, reason="Saiu da turma")


def contents(session: Session, *tables: str) -> list[object]:
    rows: list[object] = []
    for table in tables:
        query = f"SELECT to_jsonb(t) FROM {table} t ORDER BY to_jsonb(t)::text"
        rows += session.scalars(text(query)).all()
    return rows


def sign_in(session: Session) -> tuple[Outcome, int | None]:
    ensured = ensure(session, identity_of(ALICE), source=PAGE, now=NOW, rules=Rules())
    return ensured.outcome, ensured.mentorado.id if ensured.mentorado else None


def is_archive_empty(session: Session) -> bool:
    return session.scalars(select(ArchivedRow.id)).first() is None


def test_removed_profile_is_not_created_again(
    session: Session, alice: Mentorado, admin: Source
) -> None:
    affected = remove(session, alice.id, source=admin, now=NOW)

    ensured = ensure(session, identity_of(ALICE), source=PAGE, now=NOW, rules=Rules())

    assert (affected, ensured.denial) == ([ALICE.clerk_id], Denial.USER_BLOCKED)
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 0


def test_profile_that_another_table_references_is_not_removed(
    session: Session, alice: Mentorado, admin: Source
) -> None:
    session.execute(text("CREATE TABLE contratos (m integer NOT NULL REFERENCES mentorados (id))"))
    session.execute(text("INSERT INTO contratos VALUES (:id)"), {"id": alice.id})

    with pytest.raises(ConflictError):
        remove(session, alice.id, source=admin, now=NOW)


def test_unknown_profile_can_neither_be_removed_nor_restored(
    session: Session, alice: Mentorado, admin: Source
) -> None:
    with pytest.raises(UnknownMentoradoError):
        remove(session, UNKNOWN_ID, source=admin, now=NOW)
    with pytest.raises(UnknownMentoradoError):
        restore(session, alice.id, source=admin, now=NOW)


def test_restored_profile_has_its_months_feedback_and_owner(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    before, own_id = contents(session, *TABLES), with_rows.id
    remove(session, own_id, source=admin, now=NOW)
    gone = contents(session, "mentorados", *TABLES)

    restored = restore(session, own_id, source=admin, now=NOW + timedelta(days=29))

    assert (gone, contents(session, *TABLES)) == ([], before)
    assert len(before) == 9
    assert restored.clerk_ids == [ALICE.clerk_id]
    assert (restored.has_lost_owner, restored.has_lost_address) == (False, False)
    assert sign_in(session) == (Outcome.EXISTING, own_id)
    assert is_archive_empty(session)


def test_deletion_and_restoration_are_audited(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    remove(session, with_rows.id, source=admin, now=NOW)
    restore(session, with_rows.id, source=admin, now=NOW)

    events = session.scalars(
        select(AuditEvent).where(AuditEvent.event == "admin_action").order_by(AuditEvent.id)
    ).all()
    actions = [(event.details or {})["action"] for event in events]
    assert actions == ["delete", "block", "restore", "allow"]
    assert {event.actor_id for event in events} == {admin.actor_id}


def test_deleted_profile_is_listed_with_its_rows_and_who_deleted_it(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    remove(session, with_rows.id, source=admin, now=NOW)

    [deleted] = list_deleted(session, NOW)

    assert (deleted.mentorado_id, deleted.name, deleted.email) == (
        with_rows.id,
        "Alice Prado",
        ALICE.email,
    )
    assert deleted.rows == {"metricas_mensais": 8, "feedbacks": 1}
    assert (deleted.actor_name, deleted.reason) == ("Dona Admin", "Saiu da turma")


def test_deleted_profile_is_forgotten_after_thirty_days(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    remove(session, with_rows.id, source=admin, now=NOW)
    session.add(
        ArchivedRow(
            at=NOW, reason="merge", table_name="x", content={}, mentorado_id=1, kept_mentorado_id=2
        )
    )
    session.flush()
    later = NOW + RESTORE_TIME

    with pytest.raises(UnknownMentoradoError):
        restore(session, with_rows.id, source=admin, now=later)
    delete_old(session, later - timedelta(seconds=1))
    assert len(list_deleted(session, NOW)) == 1
    delete_old(session, later)

    assert list_deleted(session, NOW) == []
    assert session.scalars(select(ArchivedRow.reason)).all() == ["merge"]


def test_owner_who_was_blocked_before_stays_blocked(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    assert with_rows.user_id is not None
    yesterday = NOW - timedelta(days=1)
    admin_actions.block(session, with_rows.user_id, source=admin, now=yesterday)
    remove(session, with_rows.id, source=admin, now=NOW)

    restore(session, with_rows.id, source=admin, now=NOW)

    assert session.get_one(User, with_rows.user_id).blocked_at == yesterday


def test_untouched_profile_of_the_owner_gives_way(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    own_id, user_id = with_rows.id, with_rows.user_id
    assert user_id is not None
    remove(session, own_id, source=admin, now=NOW)
    admin_actions.allow(session, user_id, source=admin)
    new = sign_in(session)

    restore(session, own_id, source=admin, now=NOW)

    assert new[0] is Outcome.CREATED
    assert sign_in(session) == (Outcome.EXISTING, own_id)
    assert session.scalars(select(Mentorado.id)).all() == [own_id]


def test_profile_whose_owner_uses_another_is_restored_without_owner_and_address(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    own_id, user_id = with_rows.id, with_rows.user_id
    assert user_id is not None
    remove(session, own_id, source=admin, now=NOW)
    admin_actions.allow(session, user_id, source=admin)
    _, new_id = sign_in(session)
    session.add(MetricaMensal(mentorado_id=new_id, ano=2026, mes=1))
    session.flush()

    restored = restore(session, own_id, source=admin, now=NOW)

    assert (restored.has_lost_owner, restored.has_lost_address) == (True, True)
    assert (restored.mentorado.user_id, restored.mentorado.email) == (None, None)
    assert sign_in(session) == (Outcome.EXISTING, new_id)


@pytest.mark.parametrize("is_verified", [True, False])
def test_profile_of_a_deleted_account_keeps_only_a_verified_address(
    session: Session, with_rows: Mentorado, admin: Source, *, is_verified: bool
) -> None:
    """Otherwise the true owner of an address would get what a stranger has prepared."""
    user = session.get_one(User, with_rows.user_id)
    user.email_verified, with_rows.created_automatically = is_verified, True
    session.flush()
    remove(session, with_rows.id, source=admin, now=NOW)
    user.deleted_at = NOW
    session.flush()

    restored = restore(session, with_rows.id, source=admin, now=NOW)

    assert restored.has_lost_owner
    assert restored.mentorado.email == (ALICE.email if is_verified else None)
    assert restored.has_lost_address is not is_verified


def test_pre_registered_profile_is_found_again_after_its_restoration(
    session: Session, admin: Source
) -> None:
    waiting = Mentorado(nome_completo="Alice", email=ALICE.email, turma=Turma.NEON)
    session.add(waiting)
    session.flush()
    own_id = waiting.id
    assert remove(session, own_id, source=admin, now=NOW) == []

    restore(session, own_id, source=admin, now=NOW)

    assert sign_in(session) == (Outcome.LINKED, own_id)


def test_rows_below_other_rows_are_restored(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    session.execute(text(TREE))
    before = contents(session, *TABLES, "notas")
    remove(session, with_rows.id, source=admin, now=NOW)
    gone = contents(session, *TABLES, "notas")

    restore(session, with_rows.id, source=admin, now=NOW)

    assert (gone, contents(session, *TABLES, "notas")) == ([], before)
    assert len(contents(session, "avisos")) == 24


def test_columns_that_came_or_went_since_do_not_prevent_a_restoration(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    session.execute(text("ALTER TABLE metricas_mensais ADD COLUMN antiga int DEFAULT 1"))
    remove(session, with_rows.id, source=admin, now=NOW)
    changes = "DROP COLUMN antiga, ADD COLUMN nova int NOT NULL DEFAULT 7"
    session.execute(text(f"ALTER TABLE metricas_mensais {changes}"))

    restore(session, with_rows.id, source=admin, now=NOW)

    new = session.scalars(text("SELECT DISTINCT nova FROM metricas_mensais")).all()
    assert new == [7]


def test_row_that_the_database_refuses_is_a_conflict_and_keeps_the_copies(
    session: Session, with_rows: Mentorado, admin: Source
) -> None:
    remove(session, with_rows.id, source=admin, now=NOW)
    session.execute(text("ALTER TABLE feedbacks ADD CHECK (mes > 1)"))

    with pytest.raises(ConflictError):
        restore(session, with_rows.id, source=admin, now=NOW)

    assert contents(session, "mentorados") == []
    assert len(list_deleted(session, NOW)) == 1


# Tables whose rows are deleted together with a profile, in all their forms.
CASCADING = {
    name: shape
    for name, shape in SHAPES.items()
    if "ON DELETE CASCADE" in shape.create and name != "inherited"
}


@pytest.mark.parametrize("name", CASCADING)
def test_rows_of_tables_of_any_shape_are_restored(
    session: Session, admin: Source, name: str
) -> None:
    shape, ids = CASCADING[name], {}
    for key in ("gone", "kept", "other"):
        profile = Mentorado(
            nome_completo=key, email=f"{key}@example.com", meta_leads=9, turma=Turma.NEON
        )
        session.add(profile)
        session.flush()
        ids[key] = profile.id
    connection = session.connection()
    create_tables(connection, shape, ids)
    for owner in ("gone", "kept"):
        for n in (1, 2, 5):
            add_row(connection, shape, ids[owner], n, ids["other"])
    before = sorted(str(row[2]) for row in read_rows(connection, shape))

    remove(session, ids["gone"], source=admin, now=NOW)
    after_removal = len(read_rows(connection, shape))
    restore(session, ids["gone"], source=admin, now=NOW)

    assert after_removal < len(before)
    assert sorted(str(row[2]) for row in read_rows(connection, shape)) == before
