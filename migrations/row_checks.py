"""Find rows that the program cannot read, and constraints that refuse rows that it may write."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import Column

from migrations import baseline
from migrations.catalogue import FoundCheck, FoundColumn, FoundTable
from migrations.comparison import Problem, Repair, can_store, quoted, unique_keys

MAX_INTEGER = 2_147_483_647
SAMPLE = 3
LONG_ADDRESS = "p" * 64 + "@" + ".".join(["exemplo" * 8] * 4) + ".example.com"

# Conditions for a column's values, beyond its type; `?` stands for the column.
RULES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("users", "clerk_id"): ("btrim(?) <> '' AND length(?) <= 64", "is blank or too long"),
    ("users", "email"): ("length(?) <= 320", "is too long"),
    ("mentorados", "email"): ("length(?) <= 320", "is too long"),
    ("metricas_mensais", "mes"): ("? BETWEEN 1 AND 12", "is no month"),
    ("metricas_mensais", "ano"): ("? BETWEEN 2000 AND 9999", "is before 2000 or after 9999"),
    ("metricas_mensais", "lucro"): (f"? BETWEEN -{MAX_INTEGER} AND {MAX_INTEGER}", "is too large"),
    ("feedbacks", "mes"): ("? BETWEEN 1 AND 12", "is no month"),
    ("feedbacks", "ano"): ("? BETWEEN 2000 AND 9999", "is before 2000 or after 9999"),
}
NOT_NEGATIVE = (f"? BETWEEN 0 AND {MAX_INTEGER}", "is negative or too large")
IDS = (f"? BETWEEN 1 AND {MAX_INTEGER}", "is not positive or too large")
READABLE_TIMES = ("? BETWEEN '0001-01-02' AND '9999-12-30'", "is a time that programs cannot read")

# Limit values of what the program writes, by column; other columns are tested by type.
PROBES: Mapping[str, list[Any]] = {
    "id": [1],
    "clerk_id": ["user_2aBc", "u" * 64],
    "email": ["p@example.com", "P.q+r@exemplo.com.br", LONG_ADDRESS],
    "image_url": ["https://example.com/a.png", "http://example.com/" + "a" * 600],
    "foto_url": ["https://example.com/a.png", "http://example.com/" + "a" * 481],
    "login_method": ["google", "from_oauth_apple"],
    "ano": [2000, 2026, 9999],
    "mes": [1, 12],
    "lucro": [-MAX_INTEGER, -1, 0, 1, MAX_INTEGER],
}
COUNTS = [0, 1, MAX_INTEGER]

SEQUENCE = sa.text("""
    SELECT seqincrement AS step, seqmax AS largest,
           has_sequence_privilege(seqrelid, 'USAGE')
               AND has_sequence_privilege(seqrelid, 'SELECT') AS is_usable,
           pg_has_role(c.relowner, 'USAGE') AS is_ours_to_alter
      FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
     WHERE seqrelid = to_regclass(:sequence)
""")


@dataclass(frozen=True, slots=True)
class RowRule:
    """A condition for every row, and the message about rows that violate it."""

    name: str
    condition: str
    what: str


def check_rows(connection: Connection, expected: sa.Table, found: FoundTable) -> Iterator[Problem]:
    """Yield problems of values that the program cannot read, in one scan of the table."""
    rules = list(_rules(expected, found))
    counts = ", ".join(f"count(*) FILTER (WHERE NOT ({rule.condition}))" for rule in rules)
    if not rules:
        return
    counts_found = connection.execute(sa.text(f"SELECT {counts} FROM {found.name}")).one()  # noqa: S608 - our own names
    for rule, number in zip(rules, counts_found, strict=True):
        if number:
            where = f"NOT ({rule.condition})"
            what = f"{rule.what} in {number} rows{_examples(connection, found, where)}"
            yield Problem(found.name, quoted(rule.name), what, "correct or delete them")


def check_uniqueness(
    connection: Connection, expected: sa.Table, found: FoundTable
) -> Iterator[Problem]:
    """Yield duplicate rows of unique keys that do not exist yet.

    Several profiles of one user are not a problem: migration 0009 merges them.
    """
    for key in unique_keys(expected):
        is_kept = any(unique.keeps_unique(key.columns) for unique in found.unique)
        if is_kept or key.name == baseline.ONE_EACH or not set(key.columns) <= set(found.columns):
            continue
        listed = ", ".join(map(quoted, key.columns))
        duplicated = f"({listed}) IN (SELECT {listed} FROM {found.name} GROUP BY {listed} HAVING count(*) > 1)"  # noqa: E501, S608 - as above
        number = connection.scalar(sa.text(f"SELECT count(*) FROM {found.name} WHERE {duplicated}"))  # noqa: S608 - as above
        if number:
            what = f"is the same in {number} rows{_examples(connection, found, duplicated)}"
            yield Problem(found.name, listed, what, "keep one row of each")


def check_references(
    connection: Connection, expected: sa.Table, tables: Mapping[str, FoundTable]
) -> Iterator[Problem]:
    """Yield rows whose reference has no target, where no foreign key prevents them."""
    found = tables[expected.name]
    for reference in expected.foreign_keys:
        name, target = str(reference.parent.name), reference.column
        is_kept = any(key.is_enforced and key.columns == [name] for key in found.foreign_keys)
        both = ((reference.parent, found), (target, tables.get(target.table.name)))
        if is_kept or not all(_is_comparable(column, table) for column, table in both):
            continue
        orphaned = f"""
            {quoted(name)} IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM {target.table.name} t WHERE t.{target.name} = {found.name}.{name})
        """  # noqa: S608 - as above
        number = connection.scalar(sa.text(f"SELECT count(*) FROM {found.name} WHERE {orphaned}"))  # noqa: S608 - as above
        if number:
            what = f"refers to no row of {target.table.name} in {number} rows"
            what += _examples(connection, found, orphaned)
            yield Problem(found.name, quoted(name), what, "correct or delete them")


def _is_comparable(expected: Column[Any], found: FoundTable | None) -> bool:
    """Whether the column exists with a fitting type."""
    column = found.columns.get(expected.name) if found else None
    return column is not None and can_store(expected, column)


def check_constraints(
    connection: Connection, expected: sa.Table, found: FoundTable
) -> Iterator[Problem]:
    """Yield check constraints that refuse rows of the program, found by trying limit values."""
    for check in found.checks:
        refused = _refused_values(connection, check, expected, found)
        if refused is not None:
            what = f"refuses what the program may write ({refused})"
            remedy = f"ALTER TABLE {found.name} DROP CONSTRAINT {quoted(check.name)}"
            yield Problem(found.name, quoted(check.name), what, remedy)


def check_sequence(connection: Connection, found: FoundTable) -> Iterator[Problem | Repair]:
    """Yield the repair of a sequence whose next ids are taken; a problem if that is impossible."""
    column = found.columns.get("id")
    if column is None or column.sequence is None or column.type not in ("integer", "bigint"):
        return
    sequence = connection.execute(SEQUENCE, {"sequence": column.sequence}).one()
    if not sequence.is_usable:
        remedy = f"GRANT USAGE, SELECT ON SEQUENCE {column.sequence}"
        yield Problem(found.name, "id", "draws from a sequence that we may not use", remedy)
        return
    query = f"SELECT last_value, is_called FROM {column.sequence}"  # noqa: S608 - of the catalogue
    state = connection.execute(sa.text(query)).one()
    next_id = state.last_value + sequence.step * state.is_called
    highest = connection.scalar(sa.text(f"SELECT coalesce(max(id), 0) FROM {found.name}"))  # noqa: S608 - as above
    needed = max(next_id, (highest or 0) + 1)
    if sequence.step < 1 or needed > min(sequence.largest, MAX_INTEGER):
        what = f"draws from {column.sequence}, which has no number left above {highest}"
        remedy = f"ALTER SEQUENCE {column.sequence} INCREMENT BY 1 MAXVALUE {MAX_INTEGER}"
        yield Problem(found.name, "id", what, remedy)
    elif needed > next_id:
        restart = f"ALTER SEQUENCE {column.sequence} RESTART WITH {needed}"
        if sequence.is_ours_to_alter:
            yield Repair(f"{column.sequence} goes on at {needed}", restart)
        else:
            what = f"draws numbers that are taken from {column.sequence}, which is another role's"
            yield Problem(found.name, "id", what, restart)


def _rules(expected: sa.Table, found: FoundTable) -> Iterator[RowRule]:
    for column in expected.columns:
        found_column = found.columns.get(column.name)
        if found_column is None or not can_store(column, found_column):
            continue
        if not column.nullable and not found_column.is_required:
            yield RowRule(found_column.name, f"{found_column.quoted} IS NOT NULL", "is NULL")
        rule = RULES.get((expected.name, column.name)) or _rule_of_type(column)
        if rule is not None:
            condition, what = rule
            yield RowRule(
                found_column.name,
                f"coalesce({condition.replace('?', found_column.quoted)}, true)",
                what,
            )


def _rule_of_type(column: Column[Any]) -> tuple[str, str] | None:
    if isinstance(column.type, postgresql.ENUM):
        labels = ", ".join(f"'{label}'" for label in column.type.enums)
        return f"?::text IN ({labels})", f"has another label than {labels}"
    if isinstance(column.type, sa.DateTime):
        return READABLE_TIMES
    if isinstance(column.type, sa.Integer):
        return IDS if column.primary_key or column.foreign_keys else NOT_NEGATIVE
    return None


def _examples(connection: Connection, found: FoundTable, where: str) -> str:
    """Return the first ids of these rows as text; blank where rows have no ids."""
    if "id" not in found.columns:
        return ""
    query = f"SELECT id::text FROM {found.name} WHERE {where} ORDER BY id LIMIT {SAMPLE}"  # noqa: S608 - as above
    return f" (id {', '.join(connection.scalars(sa.text(query)))} …)"


def _refused_values(
    connection: Connection, check: FoundCheck, expected: sa.Table, found: FoundTable
) -> str | None:
    """Return refused values of the check's columns that the program may write; None if none."""
    values = [_probes(found.columns[name], expected) for name in check.columns]
    if not values or any(value is None for value in values):
        return None
    sources, arguments = [], {}
    for number, (name, probes) in enumerate(zip(check.columns, values, strict=True)):
        column = found.columns[name]
        sources.append(
            f"unnest(CAST(:v{number} AS text[])::{column.type}[]) AS t{number} ({column.quoted})"
        )
        arguments[f"v{number}"] = probes
    rule = check.expression.replace(":", r"\:")
    query = f"""
        SELECT left(to_jsonb(probe)::text, 120)
          FROM (SELECT * FROM {", ".join(sources)}) AS probe
         WHERE NOT coalesce(({rule}), true) LIMIT 1
    """  # noqa: S608 - as above
    try:
        with connection.begin_nested():
            refused: str | None = connection.scalar(sa.text(query), arguments)
            return refused
    except DBAPIError as err:
        return str(err.orig).splitlines()[0]


def _probes(column: FoundColumn, expected: sa.Table) -> list[str | None] | None:
    """Return texts of values that the program may write into a column; None if unknown."""
    own_column = expected.columns.get(column.name)
    if own_column is None:
        # A column of the other program gets its default, which may be a function with side effects.
        is_unknown = column.identity or column.is_generated or "(" in (column.default or "")
        return None if is_unknown else [_constant(column.default)]
    values = [str(value) for value in _values(own_column)]
    return [*values, None] if own_column.nullable else list(values)


def _values(column: Column[Any]) -> list[Any]:
    if column.name in PROBES:
        return PROBES[column.name]
    match column.type:
        case postgresql.ENUM(enums=labels):
            return list(labels)
        case sa.Integer():
            return [1] if column.foreign_keys else COUNTS
        case sa.DateTime():
            return ["2026-01-01 00:00:00+00"]
        case sa.String(length=length):
            return ["x", "Ç" * (length or column.info["longest"])]
    raise AssertionError(f"no values are known for {column.name}")


def _constant(default: str | None) -> str | None:
    """Return the text of a constant default."""
    if default is None:
        return None
    return default.rpartition("::")[0].strip("'").replace("''", "'") if "'" in default else default
