"""Read a table from PostgreSQL's catalogue: its columns, unique indexes, keys and checks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

TABLE = sa.text("""
    SELECT c.oid, c.relname AS name, c.relkind AS kind, n.nspname AS schema,
           pg_has_role(c.relowner, 'USAGE') AS is_ours_to_alter,
           row_security_active(c.oid) AS hides_rows,
           ARRAY(SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = c.oid
                 UNION ALL
                 SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid)
               AS relatives
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = current_schema() AND c.relname = :name
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
""")
COLUMNS = sa.text("""
    SELECT a.attname AS name, quote_ident(a.attname) AS quoted,
           format_type(a.atttypid, a.atttypmod) AS type,
           ARRAY(SELECT enumlabel::text FROM pg_enum
                  WHERE enumtypid = a.atttypid ORDER BY enumsortorder) AS labels,
           a.attnotnull OR t.typnotnull AS is_required,
           CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS default,
           t.typdefault IS NOT NULL AS type_has_default,
           a.attgenerated <> '' AS is_generated,
           a.attidentity AS identity,
           coalesce(o.collisdeterministic, true) AS is_deterministic,
           (SELECT q.oid::regclass::text
              FROM pg_class q
             WHERE q.relkind = 'S' AND (EXISTS (
                       SELECT 1 FROM pg_depend p  -- of an identity column
                        WHERE p.classid = 'pg_class'::regclass AND p.objid = q.oid
                          AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid
                          AND p.refobjsubid = a.attnum AND p.deptype = 'i') OR EXISTS (
                       SELECT 1 FROM pg_depend p  -- of the default
                        WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                          AND p.refclassid = 'pg_class'::regclass AND p.refobjid = q.oid))
             LIMIT 1) AS sequence
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_collation o ON o.oid = a.attcollation
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
""")
# For each index: its key columns, and all columns that its key, expressions and condition use.
UNIQUE = sa.text("""
    SELECT x.relname AS name, i.indisunique AS is_unique,
           i.indisvalid AND i.indisready AND i.indimmediate AND i.indisunique AS decides_conflicts,
           NOT i.indimmediate AS is_deferrable,
           i.indpred IS NULL AND 0 <> ALL (i.indkey) AS is_plain,
           0 = ANY (i.indkey) AS has_expressions,
           k.oid IS NOT NULL AS is_constraint,
           coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS allows_one_null,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid
                    AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                  ORDER BY a.attnum) AS columns,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid AND a.attnum > 0
                    AND (a.attnum = ANY (i.indkey) OR EXISTS (
                        SELECT 1 FROM pg_depend p
                         WHERE p.refclassid = 'pg_class'::regclass
                           AND p.refobjid = i.indrelid AND p.refobjsubid = a.attnum
                           AND (p.classid, p.objid) IN (
                               ('pg_class'::regclass, i.indexrelid),
                               ('pg_constraint'::regclass, k.oid))))
                  ORDER BY a.attnum) AS used
      FROM pg_index i
      JOIN pg_class x ON x.oid = i.indexrelid
      LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
     WHERE i.indrelid = :oid AND (i.indisunique OR i.indisexclusion)
     ORDER BY x.relname
""")
FOREIGN_KEYS = sa.text("""
    SELECT k.conname AS name, k.confdeltype AS on_delete,
           k.convalidated AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
               AS is_enforced,
           f.relname AS target, f.relnamespace = c.relnamespace AS is_in_same_schema,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS own (num, place)
                   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = own.num
                  ORDER BY own.place) AS columns,
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS own (num, place)
                   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = own.num
                  ORDER BY own.place) AS target_columns
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_class f ON f.oid = k.confrelid
     WHERE k.conrelid = :oid AND k.contype = 'f' AND k.conparentid = 0
     ORDER BY k.conname
""")
CHECKS = sa.text("""
    SELECT k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS expression,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                  ORDER BY a.attnum) AS columns
      FROM pg_constraint k WHERE k.conrelid = :oid AND k.contype = 'c'
     ORDER BY k.conname
""")
# Objects that prevent a change of a column's type: views, rules, policies, triggers, functions and
# generated columns that use it, and indexes with expressions that use it.
USES = sa.text("""
    SELECT DISTINCT a.attname AS column, pg_describe_object(p.classid, p.objid, 0) AS user
      FROM pg_depend p
      JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
      LEFT JOIN pg_attrdef d ON p.classid = 'pg_attrdef'::regclass AND d.oid = p.objid
      LEFT JOIN pg_index i ON p.classid = 'pg_class'::regclass AND i.indexrelid = p.objid
     WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = :oid
       AND (p.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
                          'pg_proc'::regclass)
            OR d.adnum <> p.refobjsubid OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
     ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column; `default` is its expression, `sequence` the one that its default uses."""

    name: str
    quoted: str
    type: str
    labels: list[str]
    is_required: bool
    default: str | None
    type_has_default: bool
    is_generated: bool
    identity: str
    is_deterministic: bool
    sequence: str | None

    @property
    def has_generated_value(self) -> bool:
        """Whether an INSERT without the column stores a value other than NULL."""
        has_default = self.default is not None or self.type_has_default
        return has_default or self.is_generated or self.identity != ""


@dataclass(frozen=True, slots=True)
class FoundUnique:
    """A unique index or exclusion constraint; `used`: columns of key, expressions and condition.

    `decides_conflicts`: ON CONFLICT can use it, provided that it is plain.
    """

    name: str
    is_unique: bool
    decides_conflicts: bool
    is_deferrable: bool
    is_plain: bool
    has_expressions: bool
    is_constraint: bool
    allows_one_null: bool
    columns: list[str]
    used: list[str]

    def keeps_unique(self, columns: Iterable[str]) -> bool:
        """Whether ON CONFLICT with these columns finds this index."""
        return self.decides_conflicts and self.is_plain and set(self.columns) == set(columns)


@dataclass(frozen=True, slots=True)
class FoundForeignKey:
    """A foreign key; `is_enforced` unless old or new rows may violate it."""

    name: str
    on_delete: str
    is_enforced: bool
    target: str
    is_in_same_schema: bool
    columns: list[str]
    target_columns: list[str]


@dataclass(frozen=True, slots=True)
class FoundCheck:
    """A check constraint."""

    name: str
    expression: str
    columns: list[str]


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table of the current schema with everything that restricts its rows."""

    name: str
    kind: str
    schema: str
    is_ours_to_alter: bool
    hides_rows: bool
    relatives: list[str]
    columns: Mapping[str, FoundColumn]
    unique: list[FoundUnique]
    foreign_keys: list[FoundForeignKey]
    checks: list[FoundCheck]
    uses: Mapping[str, list[str]]  # by column: objects that prevent a change of its type


def read_table(connection: Connection, name: str) -> FoundTable | None:
    """Return the table, view or foreign table with this name in the current schema, or None."""
    found = connection.execute(TABLE, {"name": name}).mappings().one_or_none()
    if found is None:
        return None
    facts = dict(found)
    oid = {"oid": facts.pop("oid")}
    columns = [FoundColumn(**row) for row in connection.execute(COLUMNS, oid).mappings()]
    uses: dict[str, list[str]] = {}
    for row in connection.execute(USES, oid):
        uses.setdefault(row.column, []).append(row.user)
    return FoundTable(
        **facts,
        columns={column.name: column for column in columns},
        unique=[FoundUnique(**row) for row in connection.execute(UNIQUE, oid).mappings()],
        foreign_keys=[
            FoundForeignKey(**row) for row in connection.execute(FOREIGN_KEYS, oid).mappings()
        ],
        checks=[FoundCheck(**row) for row in connection.execute(CHECKS, oid).mappings()],
        uses=uses,
    )
