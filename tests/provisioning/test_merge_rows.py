"""A merge moves rows of tables of any shape and leaves the rows of other profiles unchanged."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import ArchivedRow, Mentorado
from models.people import Turma
from provisioning.audit import Source
from provisioning.errors import ConflictError
from provisioning.merge import MergeResult, MergeSpec, Prefer, merge
from provisioning.references import count_references, is_referenced
from tests.support.foreign_tables import (
    SHAPES,
    UNMOVABLE_ROWS,
    Shape,
    add_row,
    create_tables,
    read_rows,
)
from tests.support.users import NOW

GONE, KEPT, OTHER = "gone", "kept", "other"
Rows = list[tuple[str, int]]  # owner and number


@dataclass(frozen=True, slots=True)
class Profiles:
    """The ids of the profile to delete, of the one to keep, and of an unrelated one."""

    gone: int
    kept: int
    other: int

    def as_dict(self) -> dict[str, int]:
        return {GONE: self.gone, KEPT: self.kept, OTHER: self.other}


def add_profiles(session: Session) -> Profiles:
    ids = []
    for name in (GONE, KEPT, OTHER):
        email = f"{name}@example.com"
        profile = Mentorado(nome_completo=name, email=email, meta_leads=9, turma=Turma.NEON)
        session.add(profile)
        session.flush()
        ids.append(profile.id)
    return Profiles(*ids)


@pytest.fixture
def profiles(session: Session) -> Profiles:
    return add_profiles(session)


def owner_value(shape: Shape, column: str, profiles: Profiles, name: str) -> Any:
    if shape.values.get(column) == "email":
        return f"{name}@example.com"
    return profiles.as_dict()[name]


def refers(shape: Shape, content: dict[str, Any], profiles: Profiles, *names: str) -> bool:
    return any(
        content[column] == owner_value(shape, column, profiles, name)
        for column in shape.owners
        for name in names
    )


def as_moved(shape: Shape, content: dict[str, Any], profiles: Profiles) -> str:
    """Return the row as JSON with references to the deleted profile replaced."""
    moved = dict(content)
    for column in shape.owners:
        if moved[column] == owner_value(shape, column, profiles, GONE):
            moved[column] = owner_value(shape, column, profiles, KEPT)
    return json.dumps(moved, sort_keys=True)


def fill(session: Session, shape: Shape, profiles: Profiles, rows: Rows) -> None:
    connection = session.connection()
    for owner, n in rows:
        add_row(connection, shape, profiles.as_dict()[owner], n, profiles.other)
    session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    session.execute(text("SET CONSTRAINTS ALL DEFERRED"))


def merge_profiles(
    session: Session, profiles: Profiles, prefer: Prefer = Prefer.INTO
) -> MergeResult:
    spec = MergeSpec(profiles.gone, profiles.kept, prefer, "req-1")
    return merge(session, spec, source=Source("admin", "req-1"), now=NOW)


def check_nothing_lost(session: Session, shape: Shape, profiles: Profiles, prefer: Prefer) -> None:
    """Merge and compare all rows of all tables with those before."""
    connection = session.connection()
    before = read_rows(connection, shape)

    merge_profiles(session, profiles, prefer)

    session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    after = read_rows(connection, shape)
    archived = [
        row.content
        for row in session.scalars(select(ArchivedRow).where(ArchivedRow.reason == "merge"))
        if row.table_name != "mentorados"
    ]
    untouched = [r for r in before if not refers(shape, r[2], profiles, GONE, KEPT)]
    assert [r for r in untouched if r not in after] == []
    assert not any(refers(shape, content, profiles, GONE) for *_, content in after)
    expected = Counter(as_moved(shape, content, profiles) for *_, content in before)
    remaining = [content for *_, content in after]
    assert Counter(as_moved(shape, c, profiles) for c in remaining + archived) == expected
    # Only rows of the two profiles are archived.
    assert all(refers(shape, content, profiles, GONE, KEPT) for content in archived)


ROWS = st.lists(
    st.tuples(st.sampled_from([GONE, KEPT, OTHER]), st.integers(1, 4)), max_size=9, unique=True
)
ALL_ROWS: Rows = [(owner, n) for n in (1, 2, 3, 4) for owner in (OTHER, GONE, KEPT)]


@pytest.mark.parametrize("prefer", Prefer)
@pytest.mark.parametrize("name", SHAPES)
def test_rows_move_and_no_row_of_another_profile_changes(
    session: Session, profiles: Profiles, name: str, prefer: Prefer
) -> None:
    shape = SHAPES[name]
    create_tables(session.connection(), shape, profiles.as_dict())
    fill(session, shape, profiles, ALL_ROWS)

    check_nothing_lost(session, shape, profiles, prefer)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example is rolled back
)
@given(name=st.sampled_from(sorted(SHAPES)), rows=ROWS, prefer=st.sampled_from(Prefer))
def test_no_row_is_lost_from_a_table_of_any_shape(
    session: Session, name: str, rows: Rows, prefer: Prefer
) -> None:
    with session.begin_nested() as example:
        profiles = add_profiles(session)
        create_tables(session.connection(), SHAPES[name], profiles.as_dict())
        fill(session, SHAPES[name], profiles, rows)

        check_nothing_lost(session, SHAPES[name], profiles, prefer)

        example.rollback()


@pytest.mark.parametrize("prefer", Prefer)
@pytest.mark.parametrize("obstacle", UNMOVABLE_ROWS)
def test_row_that_cannot_move_stops_the_merge(
    session: Session, profiles: Profiles, obstacle: str, prefer: Prefer
) -> None:
    session.connection().exec_driver_sql(UNMOVABLE_ROWS[obstacle].format(**profiles.as_dict()))

    with pytest.raises(ConflictError), session.begin_nested():
        merge_profiles(session, profiles, prefer)

    assert session.get(Mentorado, profiles.gone, populate_existing=True) is not None
    assert session.scalars(select(ArchivedRow)).all() == []


def test_references_between_profiles_are_moved(session: Session, profiles: Profiles) -> None:
    connection = session.connection()
    connection.exec_driver_sql(
        "ALTER TABLE mentorados ADD COLUMN indicado_por int REFERENCES mentorados ON DELETE CASCADE"
    )
    connection.execute(
        text("UPDATE mentorados SET indicado_por = :gone WHERE id IN (:gone, :kept, :other)"),
        profiles.as_dict(),
    )

    merged = merge_profiles(session, profiles)

    found = connection.execute(text("SELECT id, indicado_por FROM mentorados ORDER BY id"))
    [archived] = session.scalars(select(ArchivedRow))
    assert merged.moved == {"mentorados": 2}
    assert dict(map(tuple, found)) == {
        profiles.kept: profiles.kept,
        profiles.other: profiles.kept,
    }
    assert archived.content["indicado_por"] == profiles.gone


def test_rows_with_cascading_references_move_in_reference_order(
    session: Session, profiles: Profiles
) -> None:
    session.connection().exec_driver_sql(
        """CREATE TABLE lotes (id int, mentorado_id int REFERENCES mentorados,
                               PRIMARY KEY (id, mentorado_id)) PARTITION BY LIST (mentorado_id);
        CREATE TABLE lotes_a PARTITION OF lotes FOR VALUES IN ({gone});
        CREATE TABLE lotes_b PARTITION OF lotes DEFAULT;
        CREATE TABLE itens (lote int, mentorado_id int REFERENCES mentorados,
            FOREIGN KEY (lote, mentorado_id) REFERENCES lotes ON UPDATE CASCADE ON DELETE CASCADE);
        INSERT INTO lotes VALUES (1, {gone}), (1, {other});
        INSERT INTO itens VALUES (1, {gone}), (1, {other})""".format(**profiles.as_dict())
    )

    merge_profiles(session, profiles)

    found = session.scalars(text("SELECT mentorado_id FROM itens ORDER BY 1")).all()
    assert found == [profiles.kept, profiles.other]


def test_row_with_two_references_is_moved_and_counted_once(
    session: Session, profiles: Profiles
) -> None:
    session.connection().exec_driver_sql(
        """CREATE TABLE pares (a int REFERENCES mentorados, b int REFERENCES mentorados);
        INSERT INTO pares VALUES ({gone}, {gone}), ({other}, {gone})""".format(**profiles.as_dict())
    )

    merged = merge_profiles(session, profiles)

    assert merged.moved == {"pares": 2}


def test_rows_hidden_by_row_level_security_stop_the_merge(
    session: Session, profiles: Profiles
) -> None:
    for statement in (
        "CREATE ROLE neon_app NOLOGIN",
        "CREATE TABLE secretas (mentorado_id int REFERENCES mentorados ON DELETE CASCADE)",
        f"INSERT INTO secretas VALUES ({profiles.gone})",
        "ALTER TABLE secretas ENABLE ROW LEVEL SECURITY",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO neon_app",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO neon_app",
        "SET LOCAL ROLE neon_app",
    ):
        session.execute(text(statement))

    assert is_referenced(session, profiles.gone)
    with pytest.raises(ConflictError, match="secretas"):
        merge_profiles(session, profiles)


def test_table_without_select_privilege_counts_as_referencing(
    session: Session, profiles: Profiles
) -> None:
    for statement in (
        "CREATE ROLE neon_app NOLOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO neon_app",
        "CREATE TABLE fechadas (mentorado_id int REFERENCES mentorados)",
        "SET LOCAL ROLE neon_app",
    ):
        session.execute(text(statement))

    assert is_referenced(session, profiles.gone)
    assert "fechadas" not in count_references(session, profiles.gone)


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_a_table_of_any_shape_are_counted(
    session: Session, profiles: Profiles, name: str
) -> None:
    shape = SHAPES[name]
    create_tables(session.connection(), shape, profiles.as_dict())
    fill(session, shape, profiles, ALL_ROWS)
    if name == "reference of one partition only":
        profiles = Profiles(profiles.gone, profiles.gone, profiles.other)

    rows = read_rows(session.connection(), shape)
    for profile in (GONE, KEPT, OTHER):
        counted = count_references(session, profiles.as_dict()[profile])
        expected = sum(refers(shape, content, profiles, profile) for *_, content in rows)
        assert sum(counted.values()) == expected
        assert is_referenced(session, profiles.as_dict()[profile]) == bool(expected)
