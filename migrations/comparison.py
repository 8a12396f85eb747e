"""Compare a table of the other program with the baseline.

A difference that can be removed without changing rows is a repair, with a statement to undo it. Any
other difference is a problem, with a remedy for the operator. Nothing is written here.
"""

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import Column

from migrations import baseline
from migrations.catalogue import FoundColumn, FoundForeignKey, FoundTable, FoundUnique

DIALECT: Dialect = postgresql.psycopg2.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy's
ON_DELETE = {"SET NULL": "n", "CASCADE": "c"}
LIMIT = re.compile(r"character varying(?:\((\d+)\))?")
INCONVERTIBLE = ("uuid", "bytea", "json", "jsonb")
BASELINE_CHECKS = ("((mes >= 1) AND (mes <= 12))",)  # as PostgreSQL writes them
CAST = re.compile(r"::[\w\" .]+(?:\(\d+\))?$")


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason not to adopt an installation: where, what, and the remedy."""

    table: str
    name: str | None  # of a column, index or constraint
    what: str
    remedy: str

    def __str__(self) -> str:
        place = self.table if self.name is None else f"{self.table}.{self.name}"
        return f"{place} {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Repair:
    """A change that removes a difference: its description, its statement and the undo statement."""

    what: str
    do: str
    undo: str | None = None


Finding = Problem | Repair


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique key of the baseline; `constraint` is blank for an index without constraint."""

    name: str
    columns: tuple[str, ...]
    constraint: str

    def added_to(self, table: str) -> Repair:
        """Return the repair that adds this key to a table."""
        listed = ", ".join(map(quoted, self.columns))
        if self.constraint:
            do = f"ALTER TABLE {table} ADD CONSTRAINT {self.name} {self.constraint} ({listed})"
            undo = f"ALTER TABLE {table} DROP CONSTRAINT {self.name}"
        else:
            do = f"CREATE UNIQUE INDEX {self.name} ON {table} ({listed})"
            undo = f"DROP INDEX {self.name}"
        return Repair(f"{table} has at most one row for each {listed}", do, undo)


def compare(
    expected: sa.Table, tables: Mapping[str, FoundTable], taken: Set[str]
) -> Iterator[Finding]:
    """Yield all differences of a table's definition; `row_checks.py` checks the rows.

    `taken` are the names of the schema's tables and indexes.
    """
    found = tables[expected.name]
    for column in expected.columns:
        yield from _compare_column(column, found)
    yield from _check_unknown_columns(expected, found)
    yield from _compare_unique_keys(expected, found, taken)
    yield from _compare_foreign_keys(expected, tables)
    yield from _conflicting_checks(expected, found)


def unique_keys(table: sa.Table) -> Iterator[UniqueKey]:
    """Yield the unique keys of a baseline table, by name."""
    for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name)):
        if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint):
            name = str(DIALECT.identifier_preparer.format_constraint(constraint))
            kind = "PRIMARY KEY" if isinstance(constraint, sa.PrimaryKeyConstraint) else "UNIQUE"
            yield UniqueKey(name, tuple(constraint.columns.keys()), kind)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.unique:
            yield UniqueKey(str(index.name), tuple(index.columns.keys()), "")


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return DIALECT.identifier_preparer.quote(name)


def type_of(column: Column[Any]) -> str:
    """Return the type of a baseline column, in SQL."""
    return str(column.type.compile(DIALECT)).lower()


def default_of(column: Column[Any]) -> str | None:
    """Return the default of a baseline column, in SQL."""
    compiler = DIALECT.ddl_compiler(DIALECT, sa.schema.CreateTable(column.table))
    return compiler.get_column_default_string(column)


def can_store(expected: Column[Any], column: FoundColumn) -> bool:
    """Whether the found type can store and return all values of the program."""
    match expected.type:
        case postgresql.ENUM(name=str(name)):
            return column.type == name
        case sa.DateTime():
            return column.type.startswith("timestamp")
        case sa.Integer():
            is_small = column.type == "smallint" and "largest" in expected.info
            return is_small or column.type in ("integer", "bigint")
        case sa.String(length=length):
            limit = LIMIT.fullmatch(column.type)
            if column.type == "text" or (limit and limit[1] is None):
                return True
            longest = length or expected.info.get("longest")
            return bool(limit and longest and int(limit[1]) >= longest)
    return False


def _compare_column(expected: Column[Any], found: FoundTable) -> Iterator[Finding]:
    column = found.columns.get(expected.name)
    if column is None:
        yield _missing_column(expected, found)
        return
    kind = _type_problem(expected, column, found)
    if kind is not None:
        yield kind
    elif column.is_generated or (column.identity == "a" and not expected.primary_key):
        clause = "EXPRESSION" if column.is_generated else "IDENTITY"
        yield _problem(
            found, column, "makes its own values, the program writes them", f"DROP {clause}"
        )
    else:
        yield from _compare_labels(expected, column, found)
        yield from _compare_nullability(expected, column, found)
        yield from _compare_default(expected, column, found)


def _missing_column(expected: Column[Any], found: FoundTable) -> Finding:
    """Return the repair that adds a missing column; a problem if it is required or misnamed."""
    table, name = found.name, expected.name
    default = default_of(expected)
    definition = f"{quoted(name)} {type_of(expected)}"
    for other in found.columns.values():
        if _normalized_name(other.name) == _normalized_name(name):
            remedy = f"ALTER TABLE {table} RENAME COLUMN {other.quoted} TO {name}"
            return Problem(table, name, f"is missing, but there is {other.quoted}", remedy)
    if expected.foreign_keys or (not expected.nullable and default is None):
        return Problem(table, name, "is missing", f"ALTER TABLE {table} ADD COLUMN {definition} …")
    if not expected.nullable:
        definition += " NOT NULL"
    if default is not None:
        definition += f" DEFAULT {default}"
    return Repair(
        f"{table}.{name} is added",
        f"ALTER TABLE {table} ADD COLUMN {definition}",
        f"ALTER TABLE {table} DROP COLUMN {quoted(name)}",
    )


def _normalized_name(name: str) -> str:
    return name.replace("_", "").lower()


def _type_problem(expected: Column[Any], column: FoundColumn, found: FoundTable) -> Problem | None:
    wanted = type_of(expected)
    if not can_store(expected, column):
        what = f"is {column.type}, the program needs {wanted}"
        return Problem(found.name, column.quoted, what, _type_remedy(expected, column, found))
    if not column.is_deterministic:
        what = "takes different texts for equal"
        return _problem(found, column, what, f'TYPE {wanted} COLLATE "default"')
    uses = found.uses.get(column.name) if column.type.endswith("without time zone") else None
    if uses:
        what = f"gets a time zone, but is used by {', '.join(uses)}"
        return Problem(found.name, column.quoted, what, "drop it, and create it again afterwards")
    return None


def _type_remedy(expected: Column[Any], column: FoundColumn, found: FoundTable) -> str:
    """Return the statement that changes the column's type; it drops a default of the old type."""
    wanted, name = type_of(expected), column.quoted
    if column.labels and "." in column.type:
        return f"ALTER TYPE {column.type} SET SCHEMA {quoted(found.schema)}"
    if column.labels and column.type not in baseline.ENUMS:
        return f"ALTER TYPE {column.type} RENAME TO {wanted}"
    if column.type in INCONVERTIBLE:
        return f"give it the type {wanted}; its values cannot be converted"
    using = f"{name}::text::{wanted}" if column.labels else f"{name}::{wanted}"
    if column.type == "boolean":
        using = f"(CASE WHEN {name} THEN 'sim' ELSE 'nao' END)::{wanted}"
    elif column.type.startswith(("numeric", "double", "real", "money")):
        using = f"round({name}::numeric)::{wanted}"
    alter = f"ALTER COLUMN {name}"
    return f"ALTER TABLE {found.name} {alter} DROP DEFAULT, {alter} TYPE {wanted} USING {using}"


def _compare_labels(
    expected: Column[Any], column: FoundColumn, found: FoundTable
) -> Iterator[Finding]:
    """Yield missing enum labels as problems, and a check against additional labels as a repair."""
    if not isinstance(expected.type, postgresql.ENUM):
        return
    known, name = expected.type.enums, column.type
    for label in known:
        if label in column.labels:
            continue
        other = next((x for x in column.labels if x.lower() == label), None)
        remedy = f"ADD VALUE '{label}'" if other is None else f"RENAME VALUE '{other}' TO '{label}'"
        what = f"has no label '{label}' in its type"
        yield Problem(found.name, column.quoted, what, f"ALTER TYPE {name} {remedy}")
    if set(column.labels) - set(known):
        rule = f"{found.name}_{column.name}_adoption_check"
        labels = ", ".join(f"'{label}'" for label in known)
        yield Repair(
            f"{found.name}.{column.name} takes no other label than {', '.join(known)}",
            f"ALTER TABLE {found.name} ADD CONSTRAINT {rule} CHECK ({column.quoted} IN ({labels}))",
            f"ALTER TABLE {found.name} DROP CONSTRAINT {rule}",
        )


def _compare_nullability(
    expected: Column[Any], column: FoundColumn, found: FoundTable
) -> Iterator[Finding]:
    """Yield differences of NOT NULL; `row_checks.py` finds rows that violate it."""
    if expected.nullable and column.is_required:
        what = "is NOT NULL, the program writes NULL where it knows nothing"
        yield _problem(found, column, what, "DROP NOT NULL")
    elif not expected.nullable and not column.is_required:
        alter = f"ALTER TABLE {found.name} ALTER COLUMN {column.quoted}"
        what = f"{found.name}.{column.name} becomes NOT NULL"
        yield Repair(what, f"{alter} SET NOT NULL", f"{alter} DROP NOT NULL")


def _compare_default(
    expected: Column[Any], column: FoundColumn, found: FoundTable
) -> Iterator[Finding]:
    if expected.primary_key:
        if not column.has_generated_value:
            yield _problem(
                found,
                column,
                "has no default, the database must number new rows",
                "ADD GENERATED BY DEFAULT AS IDENTITY",
            )
        return
    wanted = default_of(expected)
    if wanted is None or CAST.sub("", column.default or "") == wanted:
        return
    alter = f"ALTER TABLE {found.name} ALTER COLUMN {column.quoted}"
    before = "DROP DEFAULT" if column.default is None else f"SET DEFAULT {column.default}"
    what = f"{found.name}.{column.name} is {wanted} by default"
    yield Repair(what, f"{alter} SET DEFAULT {wanted}", f"{alter} {before}")


def _check_unknown_columns(expected: sa.Table, found: FoundTable) -> Iterator[Finding]:
    """Yield required columns of the other program that this program does not fill."""
    for column in found.columns.values():
        if (
            column.name not in expected.columns
            and column.is_required
            and not column.has_generated_value
        ):
            what = "is NOT NULL without default, the program does not know it"
            yield _problem(found, column, what, "SET DEFAULT …, or DROP NOT NULL")


def _compare_unique_keys(
    expected: sa.Table, found: FoundTable, taken: Set[str]
) -> Iterator[Finding]:
    for key in unique_keys(expected):
        if set(key.columns) <= set(found.columns):
            yield from _compare_unique_key(key, found, taken)
    for unique in found.unique:
        what = _index_fault(unique, expected, found)
        if what is not None:
            name = quoted(unique.name)
            drop = f"ALTER TABLE {found.name} DROP CONSTRAINT {name}"
            remedy = drop if unique.is_constraint else f"DROP INDEX {name}"
            yield Problem(found.name, unique.name, what, remedy)


def _compare_unique_key(key: UniqueKey, found: FoundTable, taken: Set[str]) -> Iterator[Finding]:
    """Yield the repair that adds a missing key; a problem if its name is taken.

    Several profiles may still have the same user: migration 0009 merges them and adds that key.
    """
    fits = {unique.name for unique in found.unique if unique.keeps_unique(key.columns)}
    is_one_each = key.name == baseline.ONE_EACH
    if key.name in fits or (fits and not is_one_each):
        return
    if key.name in taken:
        what = f"has the name of our unique key of {', '.join(key.columns)}, but is something else"
        remedy = f"ALTER INDEX {key.name} RENAME TO {key.name}_old"
        yield Problem(found.name, key.name, what, remedy)
    elif not is_one_each:
        yield key.added_to(found.name)


def _index_fault(unique: FoundUnique, expected: sa.Table, found: FoundTable) -> str | None:
    """Return why a unique index or exclusion would refuse rows of the program; None if not.

    An index is accepted if it is no stricter than a key of the baseline. It is also accepted with a
    column of the other program that stays empty or gets a new value from the database each time.
    """
    own_keys = [set(key.columns) for key in unique_keys(expected)]
    if unique.is_deferrable and unique.is_plain and set(unique.columns) in own_keys:
        return "is deferrable, so that no conflict can be decided by it"
    is_weaker = any(key <= set(unique.columns) for key in own_keys) and not unique.has_expressions
    may_be_empty = not unique.allows_one_null
    if unique.is_unique and is_weaker and (may_be_empty or not _has_nulls(unique, expected)):
        return None
    other_columns = [found.columns[name] for name in unique.used if name not in expected.columns]
    if any(
        _is_new_each_time(c) or (may_be_empty and not c.has_generated_value) for c in other_columns
    ):
        return None
    return "keeps rows apart that the program may have to write"


def _has_nulls(unique: FoundUnique, expected: sa.Table) -> bool:
    own_columns = (expected.columns[name] for name in unique.columns if name in expected.columns)
    return any(column.nullable for column in own_columns)


def _is_new_each_time(column: FoundColumn) -> bool:
    return column.identity != "" or "(" in (column.default or "")


def _compare_foreign_keys(
    expected: sa.Table, tables: Mapping[str, FoundTable]
) -> Iterator[Finding]:
    """Yield wrong and missing foreign keys, unless a referenced table has problems itself."""
    found = tables[expected.name]
    expected_keys = {str(key.parent.name): key for key in expected.foreign_keys}
    if any(key.column.table.name not in tables for key in expected_keys.values()):
        return
    for key in found.foreign_keys:
        own_columns = [name for name in key.columns if name in expected.columns]
        reference = (
            expected_keys.get(own_columns[0]) if len(key.columns) == 1 and own_columns else None
        )
        if own_columns and not (reference is not None and _is_same(reference, key)):
            yield _wrong_key(key, reference, found)
    for name, reference in expected_keys.items():
        if name in found.columns and not any(key.columns == [name] for key in found.foreign_keys):
            yield _added_key(reference, found)


def _conflicting_checks(expected: sa.Table, found: FoundTable) -> Iterator[Repair]:
    """Yield repairs that rename checks with the name of a baseline check and another condition."""
    names = {
        DIALECT.identifier_preparer.format_constraint(constraint)
        for constraint in expected.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    for check in found.checks:
        if check.name in names and check.expression not in BASELINE_CHECKS:
            alter, other = f"ALTER TABLE {found.name} RENAME CONSTRAINT", f"{check.name}_old"
            yield Repair(
                f"the check {check.name} gets the name {other}",
                f"{alter} {check.name} TO {other}",
                f"{alter} {other} TO {check.name}",
            )


def _is_same(expected: sa.ForeignKey, key: FoundForeignKey) -> bool:
    return (
        key.is_in_same_schema
        and key.target == expected.column.table.name
        and key.target_columns == [expected.column.name]
        and key.on_delete == ON_DELETE[str(expected.ondelete)]
    )


def _wrong_key(key: FoundForeignKey, expected: sa.ForeignKey | None, found: FoundTable) -> Problem:
    remedy = f"ALTER TABLE {found.name} DROP CONSTRAINT {quoted(key.name)}"
    name = ", ".join(key.columns)
    if expected is None:
        what = f"refers to {key.target} ({key.name}), the program writes other values"
        return Problem(found.name, name, what, remedy)
    what = f"refers to {key.target} ({key.name}), but not with {_key_definition(expected)}"
    return Problem(found.name, name, what, f"{remedy}, ADD {_key_definition(expected)}")


def _added_key(expected: sa.ForeignKey, found: FoundTable) -> Repair:
    column = expected.parent.name
    name = f"{found.name}_{column}_fkey"
    return Repair(
        f"{found.name}.{column} refers to {expected.column.table.name}",
        f"ALTER TABLE {found.name} ADD CONSTRAINT {name} {_key_definition(expected)}",
        f"ALTER TABLE {found.name} DROP CONSTRAINT {name}",
    )


def _key_definition(expected: sa.ForeignKey) -> str:
    target = expected.column
    return (
        f"FOREIGN KEY ({expected.parent.name}) REFERENCES {target.table.name} ({target.name})"
        f" ON DELETE {expected.ondelete}"
    )


def _problem(found: FoundTable, column: FoundColumn, what: str, change: str) -> Problem:
    """Return a problem whose remedy alters the column."""
    alter = f"ALTER TABLE {found.name} ALTER COLUMN {column.quoted}"
    return Problem(found.name, column.quoted, what, f"{alter} {change}")
