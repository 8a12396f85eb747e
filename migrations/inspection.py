"""Find all problems of an installation of the other program before it is adopted.

The four shared tables are compared with the baseline. Their rows and constraints are compared with
what the program reads and writes. The names that later migrations need must be free. All problems
are reported at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from migrations import baseline, row_checks
from migrations.catalogue import FoundTable, read_table
from migrations.comparison import Problem, Repair, compare, quoted

AnyRow = sa.Row[*tuple[Any, ...]]

NAMES = [table.name for table in baseline.TABLES]
OPTIONAL = ("metricas_mensais", "feedbacks")  # created where they are missing

HAS_ANY_TABLE = sa.text("""
    SELECT EXISTS (SELECT 1 FROM unnest(CAST(:names AS text[])) AS name
                    WHERE to_regclass(quote_ident(name)) IS NOT NULL)
""")
REVISIONS = sa.text("SELECT version_num FROM alembic_version")
# The schemas of tables with these names, in any case; the most likely one of each name is first.
PLACES = sa.text("""
    SELECT lower(c.relname) AS wanted, quote_ident(c.relname) AS quoted, n.nspname AS schema,
           n.nspname = current_schema() AS is_here, pg_table_is_visible(c.oid) AS is_visible
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE lower(c.relname) = ANY (CAST(:names AS text[]))
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     ORDER BY is_visible DESC, c.relname = lower(c.relname) DESC, is_here DESC, c.relname
""")
RELATIONS = sa.text("""
    SELECT c.relname, t.relname AS owner
      FROM pg_class c
      LEFT JOIN pg_index i ON i.indexrelid = c.oid
      LEFT JOIN pg_class t ON t.oid = i.indrelid
     WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
""")
FUNCTIONS = sa.text("""
    SELECT p.oid::regprocedure::text FROM pg_proc p
     WHERE p.pronamespace = to_regnamespace(quote_ident(current_schema()))
""")
LABELS = sa.text("""
    SELECT t.typname, array_agg(e.enumlabel::text) AS labels
      FROM pg_type t LEFT JOIN pg_enum e ON e.enumtypid = t.oid
     WHERE t.typnamespace = to_regnamespace(quote_ident(current_schema()))
       AND t.typname = ANY (CAST(:names AS text[]))
     GROUP BY t.typname
""")
RIGHTS = sa.text("""
    SELECT current_schema() AS schema,
           coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
           has_database_privilege(current_database(), 'TEMPORARY') AS may_use_temporary_tables,
           current_setting('server_encoding') AS encoding
""")
# Tables that refer to profiles or users: their rows are queried at logins and moved in merges.
REFERRING = sa.text("""
    SELECT DISTINCT c.conrelid::regclass::text AS name,
           row_security_active(c.conrelid) AS hides_rows,
           has_schema_privilege(t.relnamespace, 'USAGE')
               AND has_table_privilege(c.conrelid, 'SELECT, UPDATE, DELETE') AS is_open
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE c.contype = 'f' AND c.conparentid = 0
       AND c.confrelid IN (to_regclass('users'), to_regclass('mentorados'))
     ORDER BY 1
""")


class AdoptionRefusedError(RuntimeError):
    """An installation cannot be adopted in its present state; nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} to solve first"
        super().__init__("\n  ".join([count, *map(str, problems)]))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class LaterSchema:
    """Names that migrations after the baseline create: tables, columns of the four, indexes."""

    tables: Set[str]
    columns: Mapping[str, Set[str]]
    indexes: Mapping[str, str]  # with the table they are on

    @classmethod
    def of(cls, models: sa.MetaData) -> "LaterSchema":
        """Return the names in the models that the baseline does not have."""
        known = {str(i.name) for table in baseline.TABLES for i in table.indexes}
        indexes = {str(i.name): t.name for t in models.tables.values() for i in t.indexes}
        return cls(
            tables=set(models.tables) - set(NAMES),
            columns={
                table.name: set(models.tables[table.name].columns.keys())
                - set(table.columns.keys())
                for table in baseline.TABLES
            },
            indexes={name: table for name, table in indexes.items() if name not in known},
        )


def is_foreign(connection: Connection, our_revisions: Set[str]) -> bool:
    """Whether the database has tables with the baseline's names, but none of our revisions."""
    if not connection.scalar(HAS_ANY_TABLE, {"names": NAMES}):
        return False
    return not revisions(connection) & our_revisions


def revisions(connection: Connection) -> set[str]:
    """Return the revisions in `alembic_version`, which another program may have written."""
    if connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
        return set()
    return set(connection.scalars(REVISIONS))


def refusal_of_revision(connection: Connection) -> AdoptionRefusedError | None:
    """Return the error for baseline tables with an `alembic_version` of another program."""
    if not connection.scalar(HAS_ANY_TABLE, {"names": NAMES}):
        return None
    found = ", ".join(sorted(revisions(connection)))
    what = f"holds a revision that this version does not know ({found})"
    remedy = "rename that table, unless a newer version of this program has made it"
    return AdoptionRefusedError([Problem("alembic_version", None, what, remedy)])


def similar_tables(connection: Connection) -> list[str]:
    """Return tables like `users` and `mentorados` in any schema or case, if both names exist."""
    found = connection.execute(PLACES, {"names": ["users", "mentorados"]}).all()
    is_both = len({place.wanted for place in found}) > 1
    return [f"{quoted(place.schema)}.{place.quoted}" for place in found if is_both]


def find_problems(connection: Connection, later: LaterSchema) -> list[Problem]:
    """Return all problems that prevent the adoption; nothing is changed."""
    taken = {row.relname: row.owner for row in connection.execute(RELATIONS)}
    if later.tables <= set(taken):
        what = "is missing or empty, but all tables of this program are there"
        remedy = "restore it, or run flask db stamp with the revision that they are at"
        return [Problem("alembic_version", None, what, remedy)]
    problems = [*_check_rights(connection), *_check_schemas(connection)]
    found = [table for name in NAMES if (table := read_table(connection, name))]
    kinds = {table.name: list(_check_kind(table)) for table in found}
    problems += [problem for kind in kinds.values() for problem in kind]
    # Only tables that can be read and locked are checked further.
    tables = {table.name: table for table in found if not kinds[table.name]}
    if tables:
        # Locked, so that the tables do not change between the check and the adoption.
        connection.execute(sa.text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
    for expected in baseline.TABLES:
        if table := tables.get(expected.name):
            problems += [x for x in compare(expected, tables, set(taken)) if isinstance(x, Problem)]
            problems += _check_rows(connection, expected, tables)
            problems += _check_later_columns(table, later)
    problems += _check_types(connection, tables)
    problems += _check_names(connection, taken, later)
    return problems + list(_check_referring_tables(connection))


def find_repairs(connection: Connection, expected: sa.Table) -> list[Repair]:
    """Return the repairs of one table, in the order of execution."""
    tables = {name: table for name in NAMES if (table := read_table(connection, name))}
    taken = {row.relname for row in connection.execute(RELATIONS)}
    sequence = row_checks.check_sequence(connection, tables[expected.name])
    findings = [*compare(expected, tables, taken), *sequence]
    return [finding for finding in findings if isinstance(finding, Repair)]


def missing_types(connection: Connection) -> list[str]:
    """Return the enum types of the baseline that do not exist."""
    there = {row.typname for row in connection.execute(LABELS, {"names": list(baseline.ENUMS)})}
    return [name for name in baseline.ENUMS if name not in there]


def _check_rights(connection: Connection) -> Iterator[Problem]:
    rights = connection.execute(RIGHTS).one()
    if rights.schema is None:
        yield Problem("the database", None, "has no schema on the search path", "SET search_path")
    elif not rights.may_create:
        remedy = f"GRANT CREATE ON SCHEMA {quoted(rights.schema)}"
        yield Problem("the schema", rights.schema, "takes no tables of ours", remedy)
    if not rights.may_use_temporary_tables:
        yield Problem("the database", None, "has no temporary tables for us", "GRANT TEMPORARY")
    if rights.encoding != "UTF8":
        what = f"has the encoding {rights.encoding}, which lacks letters that people write"
        yield Problem("the database", None, what, "restore a dump of it into one with UTF8")


def _check_schemas(connection: Connection) -> Iterator[Problem]:
    """Yield tables that are missing, in another schema, or named in another case."""
    places: dict[str, AnyRow] = {}
    for place in connection.execute(PLACES, {"names": NAMES}):
        places.setdefault(place.wanted, place)
    for name in NAMES:
        problem = _schema_problem(name, places.get(name))
        if problem is not None:
            yield problem


def _schema_problem(name: str, place: AnyRow | None) -> Problem | None:
    if place is None or not (place.is_visible or place.is_here):
        if name in OPTIONAL:
            return None
        where = f", but there is one in the schema {place.schema}" if place else ""
        remedy = "check that this is the right database and search_path"
        return Problem(name, None, f"is missing{where}", remedy)
    if not place.is_here:
        what = f"is in the schema {place.schema}, new tables would be made in another one"
        return Problem(name, None, what, f"let search_path begin with {quoted(place.schema)}")
    if place.quoted != name:
        remedy = f"ALTER TABLE {place.quoted} RENAME TO {name}"
        return Problem(name, None, f"is missing, but there is {place.quoted}", remedy)
    return None


def _check_kind(found: FoundTable) -> Iterator[Problem]:
    name = found.name
    if found.kind != "r":
        kind = {"p": "partitioned", "v": "a view", "m": "a view"}.get(found.kind, "a foreign table")
        yield Problem(name, None, f"is {kind}", "make it an ordinary table")
    elif found.relatives:
        what = f"inherits from or to {', '.join(found.relatives)}"
        yield Problem(name, None, what, f"ALTER TABLE … NO INHERIT …, for keys end at {name}")
    if not found.is_ours_to_alter:
        yield Problem(name, None, "belongs to another role", f"ALTER TABLE {name} OWNER TO …")
    if found.hides_rows:
        remedy = f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, or use a role with BYPASSRLS"
        yield Problem(name, None, "hides rows from us by row-level security", remedy)


def _check_rows(
    connection: Connection, expected: sa.Table, tables: Mapping[str, FoundTable]
) -> Iterator[Problem]:
    found = tables[expected.name]
    yield from row_checks.check_rows(connection, expected, found)
    yield from row_checks.check_uniqueness(connection, expected, found)
    yield from row_checks.check_references(connection, expected, tables)
    yield from row_checks.check_constraints(connection, expected, found)
    sequence = row_checks.check_sequence(connection, found)
    yield from (finding for finding in sequence if isinstance(finding, Problem))


def _check_later_columns(found: FoundTable, later: LaterSchema) -> Iterator[Problem]:
    for name in sorted(later.columns[found.name] & set(found.columns)):
        column = found.columns[name].quoted
        remedy = f"ALTER TABLE {found.name} RENAME COLUMN {column} TO {name}_old"
        yield Problem(found.name, column, "has the name of a column that we add", remedy)


def _check_types(connection: Connection, tables: Mapping[str, FoundTable]) -> Iterator[Problem]:
    """Yield added columns whose enum type exists with other labels."""
    found = {r.typname: r.labels for r in connection.execute(LABELS, {"names": [*baseline.ENUMS]})}
    for table in baseline.TABLES:
        there = tables[table.name].columns if table.name in tables else table.columns
        for column in table.columns:
            if column.name in there or not isinstance(column.type, sa.Enum):
                continue
            name, labels = str(column.type.name), found.get(str(column.type.name))
            if labels is not None and set(labels) != set(column.type.enums):
                what = f"is missing, and the type {name} has other labels"
                yield Problem(
                    table.name, column.name, what, f"ALTER TYPE {name} RENAME TO {name}_old"
                )


def _check_names(
    connection: Connection, taken: Mapping[str, str | None], later: LaterSchema
) -> Iterator[Problem]:
    for name in sorted(later.tables & set(taken)):
        yield Problem(name, None, "has the name of a table that we add", "rename it")
    for name, table in sorted(later.indexes.items()):
        if name in taken:
            remedy = f"ALTER INDEX {name} RENAME TO {name}_old"
            yield Problem(taken[name] or table, name, "has the name of an index of ours", remedy)
    for function in sorted(set(baseline.FUNCTIONS) & set(connection.scalars(FUNCTIONS))):
        remedy = f"ALTER FUNCTION {function} RENAME TO …"
        yield Problem(function, None, "has the name of a function that we add", remedy)


def _check_referring_tables(connection: Connection) -> Iterable[Problem]:
    for table in connection.execute(REFERRING):
        if not table.is_open:
            remedy = f"GRANT SELECT, UPDATE, DELETE ON {table.name}"
            yield Problem(table.name, None, "refers to our tables, but we may not read it", remedy)
        elif table.hides_rows and table.name not in NAMES:
            what = "refers to our tables, but hides rows from us by row-level security"
            yield Problem(table.name, None, what, "use a role with BYPASSRLS")
