"""Export and erasure find everything about a person, in tables of other programs as well."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, text
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import (
    AdminJob,
    AppSetting,
    ArchivedRow,
    AuditEvent,
    Feedback,
    Mentorado,
    MetricaMensal,
    SweepRun,
    User,
)
from models.people import Turma
from provisioning import admin_actions, merge
from provisioning.audit import Source
from provisioning.clerk_messages import handle_account_deletion
from provisioning.ensure import ensure
from provisioning.erasure import EVENT, erase_person, preview_erasure
from provisioning.errors import ConflictError, UnknownUserError
from provisioning.merge import MergeSpec, Prefer
from provisioning.personal_data import (
    export_person,
    find_person,
    find_person_without_account,
)
from provisioning.rules import Rules
from tests.support.foreign_tables import SHAPES, Shape, add_row, create_tables
from tests.support.users import NOW, PAGE, failed_attempt
from tests.support.whole_database import tables_with

ADMIN = Source("admin", "req-admin-0001", actor_id=None, reason="pedido da titular Zelia Quintana")
CLERK_ID, NAME, EMAIL = "user_zelia9zz", "Zelia Quintana", "zelia.quintana@example.com"
PHOTO = "https://img.example.com/zelia-quintana.png"
NOTE, ANALYSIS, TEXT = "perdi tres clientes", "analise da zelia", "texto de outro programa"
VALUES = (CLERK_ID, NAME, EMAIL, PHOTO, NOTE, ANALYSIS, TEXT)


@pytest.fixture
def zelia(session: Session) -> User:
    """A person with rows in every table of the program."""
    identity = Identity(CLERK_ID, NAME, EMAIL, True, PHOTO, is_complete=True)
    result = ensure(session, identity, source=PAGE, now=NOW, rules=Rules())
    assert result.mentorado is not None
    profile_id = result.mentorado.id
    period = {"mentorado_id": profile_id, "ano": 2026, "mes": 2}
    session.add(MetricaMensal(**period, observacoes=NOTE))
    session.add(
        Feedback(**period, analise_mes=ANALYSIS, foco_proximo_mes="foco", sugestao_mentor="mais")
    )
    session.add(failed_attempt(CLERK_ID))
    changes = {"nome_completo": f"{NAME} Lima", "foto_url": PHOTO}
    admin_actions.edit(session, profile_id, changes=changes, source=ADMIN, now=NOW)
    admin_actions.edit(session, profile_id, changes={"nome_completo": NAME}, source=ADMIN, now=NOW)
    session.commit()
    return session.get_one(User, result.user.id)


@pytest.fixture
def other(session: Session) -> Mentorado:
    """Another mentee with an account, a profile and a month."""
    return _person(session, "user_outra", "Outra Pessoa", "outra@example.com")


def _person(session: Session, clerk_id: str, name: str, email: str) -> Mentorado:
    user = User(clerk_id=clerk_id, name=name, email=email)
    session.add(user)
    session.flush()
    profile = Mentorado(user_id=user.id, nome_completo=name, email=email, turma=Turma.NEON)
    session.add(profile)
    session.flush()
    session.add(MetricaMensal(mentorado_id=profile.id, ano=2026, mes=2, observacoes="da outra"))
    session.commit()
    return profile


def erase(session: Session, user: User, source: Source = ADMIN) -> dict[str, int]:
    person = find_person(session, user.id, lock=True)
    counts = dict(erase_person(session, person, source=source).counts)
    session.commit()
    return counts


def execute(session: Session, statements: str, **values: object) -> None:
    session.execute(text(statements), values)
    session.commit()


def test_nothing_of_the_person_remains(
    session: Session, connection: Connection, zelia: User, other: Mentorado
) -> None:
    assert CLERK_ID in tables_with(connection, VALUES)

    counts = erase(session, zelia)

    assert tables_with(connection, VALUES) == {}
    assert counts == {
        "audit_events": 3,
        "feedbacks": 1,
        "mentorados": 1,
        "metricas_mensais": 1,
        "provisioning_attempts": 1,
        "users": 1,
    }
    assert session.get(Mentorado, other.id) is not None


def test_erasure_is_recorded_with_who_why_and_counts(session: Session, zelia: User) -> None:
    user_id = zelia.id
    source = Source("admin", "req-2", actor_id=77, reason=f"pedido de {EMAIL}")

    counts = erase(session, zelia, source)

    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == EVENT))
    details = event.details or {}
    assert (event.actor_id, event.user_id, event.entry) == (77, user_id, "admin")
    assert (details["counts"], details["reason"]) == (counts, "pedido de (apagado)")
    assert details["pseudonym"].startswith("erased_")


def test_later_sign_in_is_a_new_person(session: Session, zelia: User) -> None:
    old_id = zelia.id
    erase(session, zelia)

    result = ensure(
        session,
        Identity(CLERK_ID, NAME, EMAIL, True),
        source=PAGE,
        now=NOW,
        rules=Rules(),
    )

    assert (result.outcome, result.user.id == old_id) == ("created", False)


def test_preview_changes_nothing(session: Session, connection: Connection, zelia: User) -> None:
    before = tables_with(connection, VALUES)

    person = find_person(session, zelia.id, lock=True)
    counts = preview_erasure(session, person, source=ADMIN).counts

    assert (tables_with(connection, VALUES), counts) == (before, erase(session, zelia))


def test_export_contains_every_row(session: Session, zelia: User) -> None:
    document = export_person(session, find_person(session, zelia.id), now=NOW)

    tables = document["tables"]
    assert set(tables) == {
        "audit_events",
        "feedbacks",
        "mentorados",
        "metricas_mensais",
        "provisioning_attempts",
        "users",
    }
    assert tables["metricas_mensais"][0]["observacoes"] == NOTE
    assert tables["users"][0]["clerk_id"] == CLERK_ID
    assert [event["event"] for event in tables["audit_events"]] == [
        "mentorado_created",
        "admin_action",
        "admin_action",
    ]


def test_own_account_cannot_be_erased(session: Session, zelia: User) -> None:
    person = find_person(session, zelia.id, lock=True)

    with pytest.raises(ConflictError, match="themselves"):
        erase_person(session, person, source=Source("admin", actor_id=zelia.id))


def test_unknown_person_is_reported(session: Session) -> None:
    with pytest.raises(UnknownUserError):
        find_person(session, 999_999)
    with pytest.raises(UnknownUserError):
        find_person_without_account(session, "ninguem@example.com")


def test_pre_registered_person_without_account_is_erased(
    session: Session, connection: Connection
) -> None:
    session.add(Mentorado(nome_completo=NAME, email=EMAIL, turma=Turma.NEON))
    session.commit()

    person = find_person_without_account(session, EMAIL.upper(), lock=True)
    erase_person(session, person, source=ADMIN)

    assert tables_with(connection, (NAME, EMAIL)) == {}


def test_merged_profile_and_its_archive_are_erased(
    session: Session, connection: Connection, zelia: User
) -> None:
    secret = "perfil antigo da zelia"
    old = Mentorado(nome_completo=secret, email="antiga@example.com", turma=Turma.NEON)
    session.add(old)
    session.flush()
    session.add(MetricaMensal(mentorado_id=old.id, ano=2026, mes=2, observacoes=secret))
    session.flush()
    own = session.scalars(select(Mentorado.id).where(Mentorado.user_id == zelia.id)).one()
    spec = MergeSpec(old.id, own, Prefer.INTO)
    merge.merge(session, spec, source=ADMIN, now=NOW)
    session.commit()
    assert tables_with(connection, [secret]) == {secret: ["archived_rows"]}

    erase(session, zelia)

    assert tables_with(connection, [secret, *VALUES]) == {}


def test_profile_of_a_deleted_account_is_erased_with_it(
    session: Session, connection: Connection, zelia: User
) -> None:
    handle_account_deletion(session, CLERK_ID, source=Source("webhook"), now=NOW)
    session.commit()

    erase(session, zelia)

    assert tables_with(connection, VALUES) == {}


def test_profile_that_was_unlinked_by_an_admin_is_not_erased(session: Session, zelia: User) -> None:
    profile_id = session.scalars(select(Mentorado.id).where(Mentorado.user_id == zelia.id)).one()
    session.execute(text("UPDATE mentorados SET email = 'true.owner@example.com'"))
    admin_actions.unlink(session, profile_id, source=ADMIN, now=NOW)
    session.commit()

    erase(session, zelia)

    assert session.get(Mentorado, profile_id) is not None


def test_records_of_others_lose_the_values_of_the_person(
    session: Session, connection: Connection, zelia: User, other: Mentorado
) -> None:
    reason = f'mesma "pessoa" que {EMAIL}'
    audit_source = Source("admin", actor_id=1, reason=reason)
    admin_actions.edit(session, other.id, changes={"meta_leads": 7}, source=audit_source, now=NOW)
    session.add(
        AdminJob(
            id="00000000-0000-4000-8000-000000000001",
            kind="import",
            status="succeeded",
            dry_run=True,
            digest="x",
            content=f"nome;email\n{NAME};{EMAIL}\nOutra;outra@example.com",
            results=[{"nome": NAME, "email": EMAIL}],
            requested_by=zelia.id,
        )
    )
    session.add(
        ArchivedRow(
            reason="merge",
            table_name="notas",
            content={"por": NAME},
            mentorado_id=other.id,
            kept_mentorado_id=other.id,
        )
    )
    session.commit()

    erase(session, zelia)

    assert tables_with(connection, VALUES) == {}
    [job] = session.scalars(select(AdminJob))
    assert job.content == "nome;email\n(apagado);(apagado)\nOutra;outra@example.com"
    assert job.requested_by is None
    [event] = session.scalars(select(AuditEvent).where(AuditEvent.mentorado_id == other.id))
    assert (event.details or {})["reason"] == 'mesma "pessoa" que (apagado)'


def test_records_of_the_program_that_name_the_account_stay(session: Session, zelia: User) -> None:
    session.add(AppSetting(key="auto_create", value=False, updated_by=zelia.id))
    session.add(SweepRun(status="succeeded", trigger="admin", requested_by=zelia.id))
    session.commit()

    erase(session, zelia)

    assert session.scalars(select(AppSetting.updated_by)).one() is None
    assert session.scalars(select(SweepRun.requested_by)).one() is None


# Tables of another program: their statements, and the number of rows afterwards. {user} and
# {profile} are the person's, {other_user} and {other} another person's.
UNKNOWN_TABLES: dict[str, tuple[str, dict[str, int]]] = {
    "reference to the account": (
        """CREATE TABLE notas (id serial, user_id int REFERENCES users, corpo text);
        INSERT INTO notas (user_id, corpo) VALUES ({user}, :text), ({other_user}, 'y')""",
        {"notas": 1},
    ),
    "reference that is set to null": (
        """CREATE TABLE notas (user_id int REFERENCES users ON DELETE SET NULL, corpo text);
        CREATE TABLE fichas (m int REFERENCES mentorados ON DELETE SET NULL, corpo text);
        INSERT INTO notas VALUES ({user}, :text); INSERT INTO fichas VALUES ({profile}, :text)""",
        {"notas": 0, "fichas": 0},
    ),
    "reference to the Clerk id": (
        """CREATE TABLE notas (clerk varchar REFERENCES users (clerk_id), corpo text);
        INSERT INTO notas VALUES ('user_zelia9zz', :text)""",
        {"notas": 0},
    ),
    "three levels": (
        """CREATE TABLE chamadas (id serial PRIMARY KEY, m int NOT NULL REFERENCES mentorados);
        CREATE TABLE atas (id serial PRIMARY KEY, c int REFERENCES chamadas ON DELETE RESTRICT);
        CREATE TABLE frases (a int REFERENCES atas ON DELETE SET NULL, corpo text);
        INSERT INTO chamadas (m) VALUES ({profile}), ({other});
        INSERT INTO atas (c) SELECT id FROM chamadas;
        INSERT INTO frases SELECT id, CASE id WHEN 1 THEN :text ELSE 'y' END FROM atas""",
        {"chamadas": 1, "atas": 1, "frases": 1},
    ),
    "cycle": (
        """CREATE TABLE a (id int PRIMARY KEY, m int REFERENCES mentorados, b int, corpo text);
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
        INSERT INTO a VALUES (1, {profile}, 1, :text); INSERT INTO b VALUES (1, 1)""",
        {"a": 0, "b": 0},
    ),
    "lookup table": (
        """CREATE TABLE tipos (id int PRIMARY KEY, feito_por int REFERENCES users);
        CREATE TABLE notas (tipo int NOT NULL REFERENCES tipos, u int REFERENCES users, t text);
        INSERT INTO tipos VALUES (1, {other_user});
        INSERT INTO notas VALUES (1, {user}, :text), (1, {other_user}, 'y')""",
        {"tipos": 1, "notas": 1},
    ),
}


@pytest.mark.parametrize(("statements", "left"), UNKNOWN_TABLES.values(), ids=UNKNOWN_TABLES)
def test_rows_of_unknown_tables_are_exported_and_erased(
    session: Session,
    connection: Connection,
    zelia: User,
    other: Mentorado,
    statements: str,
    left: dict[str, int],
) -> None:
    create(session, zelia, other, statements)
    document = export_person(session, find_person(session, zelia.id), now=NOW)

    erase(session, zelia)

    assert TEXT in str(document["tables"])
    assert tables_with(connection, VALUES) == {}
    assert {t: session.scalar(text(f"SELECT count(*) FROM {t}")) for t in left} == left


def create(session: Session, user: User, other: Mentorado, statements: str) -> None:
    profile_id = session.scalars(select(Mentorado.id).where(Mentorado.user_id == user.id)).one()
    ids = {"user": user.id, "profile": profile_id, "other": other.id, "other_user": other.user_id}
    for statement in statements.format(**ids).split(";"):
        values = {"text": TEXT} if ":text" in statement else {}
        session.execute(text(statement.replace("$", ";")), values)
    session.commit()


# Rows of another mentee that name the person as their mentor, and the row afterwards.
SHARED_TABLES = {
    "optional": (
        """CREATE TABLE tarefas (id int, m int NOT NULL REFERENCES mentorados,
                                 autora int REFERENCES users, revisora int REFERENCES users,
                                 titulo varchar(80));
        INSERT INTO tarefas VALUES (1, {other}, {user}, {user}, 'de Zelia Quintana')""",
        {"autora": None, "revisora": None, "titulo": "de (apagado)"},
    ),
    "cascade": (
        """CREATE TABLE tarefas (id int, m int NOT NULL REFERENCES mentorados,
                                 autora int NOT NULL REFERENCES users ON DELETE CASCADE,
                                 dados jsonb);
        INSERT INTO tarefas VALUES (1, {other}, {user}, '{{"por": "Zelia Quintana"}}')""",
        {"dados": {"por": "(apagado)"}},
    ),
    "through another table": (
        """CREATE TABLE planos (id int PRIMARY KEY, m int REFERENCES mentorados);
        CREATE TABLE tarefas (id int, plano int NOT NULL REFERENCES planos,
                              autora int REFERENCES users ON DELETE SET NULL);
        INSERT INTO planos VALUES (1, {other}); INSERT INTO tarefas VALUES (1, 1, {user})""",
        {"autora": None},
    ),
}


@pytest.mark.parametrize(("statements", "expected"), SHARED_TABLES.values(), ids=SHARED_TABLES)
def test_rows_of_another_person_stay_without_the_erased_one(
    session: Session,
    connection: Connection,
    zelia: User,
    other: Mentorado,
    statements: str,
    expected: dict[str, Any],
) -> None:
    create(session, zelia, other, statements)

    erase(session, zelia)

    [row] = session.execute(text("SELECT * FROM tarefas")).mappings()
    assert {name: row[name] for name in expected} == expected
    assert tables_with(connection, VALUES) == {}


def test_account_that_rows_of_others_need_stays_under_a_pseudonym(
    session: Session, connection: Connection, zelia: User, other: Mentorado
) -> None:
    create(session, zelia, other, SHARED_TABLES["cascade"][0])
    user_id = zelia.id

    erase(session, zelia)

    row = session.get_one(User, user_id, populate_existing=True)
    assert row.clerk_id.startswith("erased_")
    assert (row.name, row.email, row.image_url, row.deleted_at is None) == (None, None, None, False)


CONFLICTS = {
    "a profile that needs this one": """
        ALTER TABLE mentorados ADD COLUMN dupla int REFERENCES mentorados ON DELETE CASCADE;
        UPDATE mentorados SET dupla = {profile} WHERE id = {other}""",
    "a trigger that discards the deletion": """
        CREATE TABLE teimosa (m int REFERENCES mentorados ON DELETE CASCADE);
        INSERT INTO teimosa VALUES ({profile});
        CREATE FUNCTION engole() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL$ END';
        CREATE TRIGGER engole BEFORE DELETE ON teimosa FOR EACH ROW EXECUTE FUNCTION engole()""",
    "a rule that discards the deletion": """
        CREATE TABLE surda (m int REFERENCES mentorados ON DELETE CASCADE);
        INSERT INTO surda VALUES ({profile});
        CREATE RULE nada AS ON DELETE TO surda DO INSTEAD NOTHING""",
}


@pytest.mark.parametrize("statements", CONFLICTS.values(), ids=CONFLICTS)
def test_erasure_that_would_be_incomplete_is_refused(
    session: Session, connection: Connection, zelia: User, other: Mentorado, statements: str
) -> None:
    create(session, zelia, other, statements)
    person = find_person(session, zelia.id, lock=True)

    with pytest.raises(ConflictError):
        erase_person(session, person, source=ADMIN)

    session.rollback()
    assert CLERK_ID in tables_with(connection, VALUES)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_rows_of_every_shape_of_table_are_erased(
    session: Session, connection: Connection, zelia: User, other: Mentorado, shape: Shape
) -> None:
    own = session.scalars(select(Mentorado.id).where(Mentorado.user_id == zelia.id)).one()
    third = _person(session, "user_terceira", "Terceira", "terceira@example.com")
    create_tables(connection, shape, {"gone": own, "kept": third.id, "other": other.id})
    for n in (1, 2):
        add_row(connection, shape, own, n, other.id)
        add_row(connection, shape, third.id, n, other.id)
    exported = export_person(session, find_person(session, zelia.id), now=NOW)["tables"]

    counts = erase(session, zelia)

    assert any(name not in KNOWN_TABLES for name in exported)
    assert {name: len(rows) for name, rows in exported.items()} == counts
    assert tables_with(connection, VALUES) == {}


KNOWN_TABLES = {"users", "mentorados", "metricas_mensais", "feedbacks", "audit_events"} | {
    "provisioning_attempts"
}

ACTIONS = ("CASCADE", "SET NULL", "NO ACTION", "RESTRICT")
TableSpec = tuple[str, str, bool]


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example is rolled back
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("users", "mentorados", "previous")),
            st.sampled_from(ACTIONS),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_nothing_remains_whatever_tables_another_program_has(
    erase_with_tables: Callable[[list[TableSpec]], tuple[dict[str, list[str]], int]],
    tables: list[TableSpec],
) -> None:
    found, rows_of_others = erase_with_tables(tables)

    assert (found, rows_of_others) == ({}, len(tables))


@pytest.fixture
def erase_with_tables(
    session: Session, connection: Connection, zelia: User, other: Mentorado
) -> Callable[[list[TableSpec]], tuple[dict[str, list[str]], int]]:
    """Create chains of tables, erase, search the database, count the rows of others, undo."""
    own = session.scalars(select(Mentorado.id).where(Mentorado.user_id == zelia.id)).one()
    ids = {"users": (zelia.id, other.user_id), "mentorados": (own, other.id)}

    def run(tables: list[TableSpec]) -> tuple[dict[str, list[str]], int]:
        with connection.begin_nested() as savepoint:
            for number, (target, action, is_required) in enumerate(tables):
                previous = f"t{number - 1}" if number else "mentorados"
                parent = previous if target == "previous" else target
                _create_table(connection, f"t{number}", parent, action, is_required=is_required)
                for row, owner in enumerate(ids.get(parent, (1, 2)), start=1):
                    insert = text(f"INSERT INTO t{number} VALUES (:id, :owner, :content)")
                    content = f"{TEXT} {number}" if row == 1 else "da outra"
                    connection.execute(insert, {"id": row, "owner": owner, "content": content})
            with Session(connection, join_transaction_mode="create_savepoint") as inner:
                erase_person(inner, find_person(inner, zelia.id, lock=True), source=ADMIN)
                inner.commit()
            found = tables_with(connection, VALUES)
            left = sum(
                connection.scalar(text(f"SELECT count(*) FROM t{n} WHERE content = 'da outra'"))
                or 0
                for n in range(len(tables))
            )
            savepoint.rollback()
        return found, left

    return run


def _create_table(
    connection: Connection, name: str, parent: str, action: str, *, is_required: bool
) -> None:
    null = "NOT NULL" if is_required else ""
    connection.execute(
        text(
            f"CREATE TABLE {name} (id int PRIMARY KEY, "
            f"parent int {null} REFERENCES {parent} (id) ON DELETE {action}, content text)"
        )
    )
