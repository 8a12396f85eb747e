"""Merge several profiles of one user into one (migration 0009), and undo that.

The first profile by this order is kept: with months or feedback, referred to by any row, older,
lower id. The others are removed. All statements are set-based and run in the migration's
transaction:

1. `settle` stores the profiles to remove in `adoption_removed_profiles` and archives them.
2. In each referring table, rows that would violate a unique index after the move are archived. The
   others move to the kept profile. Rows are addressed by `tableoid` and `ctid`, because each
   partition has its own `ctid`s.
3. If any row did not move, nothing is changed; else the removed profiles are deleted.

`restore_duplicates` restores archived rows and moves the others back.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.referring import (
    ReferringTable,
    column_list,
    columns_of,
    fetch_value,
    literal,
    primary_key,
    quoted,
    referring_to,
    referring_to_profiles,
    run,
    statement,
)

LOST = "adoption"  # reason in archived_rows: a deleted row
MOVED = "adoption: moved"  # reason for a moved row: its key, and what it referred to before
REPORTS = ("metricas_mensais", "feedbacks")
PLACE = "t.tableoid = r.adoption_table AND t.ctid = r.adoption_place"
NEVER_ARCHIVED = ("users", "mentorados")  # no row of these tables is deleted for a unique index

# Unique indexes of a table and, where it is partitioned, those of single partitions.
UNIQUE = sa.text("""
    WITH tables AS (
        SELECT CAST(:oid AS oid) AS oid, NULL AS partition
         UNION ALL
        SELECT relid, coalesce(pg_get_partition_constraintdef(relid), 'true')
          FROM pg_partition_tree(CAST(:oid AS oid)) WHERE relid <> CAST(:oid AS oid)
    )
    SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid
                    AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS columns,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid AND a.attnum > 0
                    AND (a.attnum = ANY (i.indkey) OR EXISTS (
                        SELECT 1 FROM pg_depend p
                         WHERE p.refclassid = 'pg_class'::regclass
                           AND p.refobjid = i.indrelid AND p.refobjsubid = a.attnum
                           AND (p.classid, p.objid) IN (
                               ('pg_class'::regclass, i.indexrelid),
                               ('pg_constraint'::regclass, k.oid))))
                  ORDER BY a.attnum) AS used,
           coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') AS condition,
           t.partition, 0 = ANY (i.indkey) AS has_expressions,
           coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS allows_one_null
      FROM tables t
      JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique
      JOIN pg_class x ON x.oid = i.indexrelid
      LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
     WHERE t.partition IS NULL OR NOT x.relispartition
     ORDER BY x.relname
""")
LEADING_INDEX = sa.text("""
    SELECT EXISTS (
        SELECT 1 FROM pg_index i
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = CAST(:oid AS oid) AND a.attname = :name
           AND i.indpred IS NULL AND i.indisvalid)
""")
# Notes of moved rows: the key of the row, and the former values of its referring columns. Notes of
# the first version have the name of one column under '', whose value is missing or old.
NOTES = f"""
    SELECT mentorado_id, kept_mentorado_id, CASE WHEN content ? '' THEN jsonb_build_object(
               'row', content - '' || jsonb_build_object(content ->> '', kept_mentorado_id),
               'was', jsonb_build_object(content ->> '', mentorado_id)) ELSE content END AS content
      FROM archived_rows WHERE reason = '{MOVED}' AND table_name = :adoption_name
"""  # noqa: S608 - constants


def merge_duplicates() -> None:
    """Merge profiles until each user has one.

    Raises RuntimeError where a row would be lost; the transaction then changes nothing.
    """
    children = referring_to_profiles()
    run("SET CONSTRAINTS ALL IMMEDIATE")  # a violation is reported by the statement that causes it
    _create_removed_table(children)
    if not fetch_value("SELECT EXISTS (SELECT 1 FROM adoption_removed_profiles)"):
        return
    _note_decisions()
    _archive_removed()
    with _temporary_indexes(children):
        for child in children:
            _archive_conflicting_rows(child)
            _move_rows(child)
        for child in children:
            _refuse_unmoved_rows(child)
        run("DELETE FROM mentorados m USING adoption_removed_profiles l WHERE l.removed_id = m.id")


def restore_duplicates() -> None:
    """Restore the archived rows and move the others back, as far as they still exist."""
    run("SET CONSTRAINTS ALL IMMEDIATE")
    _restore("mentorados")
    for child in referring_to_profiles():
        _move_back(child)
        if child.name != "mentorados":
            _restore(child.name)
    run(f"DELETE FROM archived_rows WHERE reason IN ('{LOST}', '{MOVED}')")  # noqa: S608 - constants


def _create_removed_table(children: list[ReferringTable]) -> None:
    """Create `adoption_removed_profiles`: each profile to remove, the kept one and the reason."""
    history = [_refers(child) for child in children if child.name in REPORTS]
    anything = [_refers(child) for child in children]
    run(f"""
        CREATE TEMPORARY TABLE adoption_removed_profiles ON COMMIT DROP AS
        WITH several AS (
            SELECT m.id, m.user_id, m.created_at,
                   ({" OR ".join(history) or "false"}) AS has_history,
                   ({" OR ".join(anything) or "false"}) AS is_used
              FROM mentorados m
             WHERE m.user_id IN (
                   SELECT user_id FROM mentorados GROUP BY user_id HAVING count(user_id) > 1)
        ), ranked AS (
            SELECT *, first_value(id) OVER best AS kept_id, row_number() OVER best AS place
              FROM several
            WINDOW best AS (
                   PARTITION BY user_id ORDER BY has_history DESC, is_used DESC, created_at, id)
        )
        SELECT r.id AS removed_id, r.kept_id, r.user_id, r.place,
               CASE WHEN k.has_history AND NOT r.has_history THEN 'history'
                    WHEN k.is_used AND NOT r.is_used THEN 'used'
                    WHEN k.created_at < r.created_at THEN 'older'
                    ELSE 'first' END AS why
          FROM ranked r JOIN several k ON k.id = r.kept_id WHERE r.place > 1
    """)  # noqa: S608 - names from the catalogue, quoted
    run("CREATE UNIQUE INDEX ON adoption_removed_profiles (removed_id)")
    run("ANALYZE adoption_removed_profiles")


def _note_decisions() -> None:
    run("""
        UPDATE adoptions SET facts = facts || jsonb_build_object('decisions', (
            SELECT jsonb_agg(jsonb_build_object(
                       'user_id', user_id, 'keeper_id', kept_id, 'loser_id', removed_id, 'why', why
                   ) ORDER BY user_id, removed_id)
              FROM adoption_removed_profiles))
    """)


def _refers(child: ReferringTable) -> str:
    """Return the condition that a row of the table, except `m` itself, refers to profile `m`."""
    own = " AND c.id <> m.id" if child.name == "mentorados" else ""
    found = " OR ".join(f"({reference.matches('c', 'm')})" for reference in child.references)
    return f"EXISTS (SELECT 1 FROM {child.rows} c WHERE ({found}){own})"  # noqa: S608 - as above


def _archive_removed() -> None:
    """Archive the profiles to remove before any change."""
    run(f"""
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{LOST}', 'mentorados', to_jsonb(m), m.id, l.kept_id
          FROM mentorados m JOIN adoption_removed_profiles l ON l.removed_id = m.id
    """)  # noqa: S608 - constants


def _archive_conflicting_rows(child: ReferringTable) -> None:
    """Archive rows that would violate unique indexes; the best ranked one stays."""
    if child.is_partition:
        return  # its rows may move to another partition; the database reports violations
    for index in op.get_bind().execute(UNIQUE, {"oid": child.oid}).all():
        is_changed = bool(set(index.used) & set(child.columns))
        if index.has_expressions and is_changed:
            raise RuntimeError(
                f"{child.name} has a unique index of expressions: merge these by hand"
            )
        if is_changed or (index.partition and not index.has_expressions):
            _archive_rows_of_index(child, index, among_all=not is_changed)


def _archive_rows_of_index(child: ReferringTable, index: sa.Row[Any], *, among_all: bool) -> None:
    """Archive rows that would violate this index after the move.

    `among_all`: the index has no referring column, so that rows of any profile may conflict.
    """
    columns = columns_of(child.name)
    moved = ", ".join(f"{child.moved_value(c.name)} AS {quoted(c.name)}" for c in columns)
    owners = ", ".join(child.moved_value(name) for name in child.columns)
    kept = " OR ".join(r.is_among("t", "kept_id") for r in child.references)
    among = set(index.columns) & set(child.columns)
    first = "first_value(adoption_owners) OVER same"
    is_own = f"adoption_owners = {first}" if among_all else "true"
    scope = "true" if among_all else f"({child.refers_to_removed} OR {kept})"
    keys = [quoted(name) for name in index.columns]
    known = "true" if index.allows_one_null else " AND ".join(f"{key} IS NOT NULL" for key in keys)
    run(f"""
        CREATE TEMPORARY TABLE adoption_rivals ON COMMIT DROP AS
        SELECT * FROM (
            SELECT adoption_table, adoption_place, adoption_removed, adoption_kept,
                   {is_own} AS is_own,
                   row_number() OVER same AS rank
              FROM (SELECT t.tableoid AS adoption_table, t.ctid AS adoption_place,
                           {child.removed_value("removed_id")} AS adoption_removed,
                           {child.removed_value("kept_id")} AS adoption_kept,
                           {child.removed_value("place", among)} AS adoption_rank,
                           jsonb_build_array({owners}) AS adoption_owners, {moved}
                      FROM {child.rows} t {child.removed_joins} WHERE {scope}) AS moved
             WHERE ({index.condition}) AND ({index.partition or "true"}) AND {known}
            WINDOW same AS (PARTITION BY {", ".join(keys)}
                                ORDER BY adoption_rank NULLS FIRST, adoption_table, adoption_place)
        ) AS ranked WHERE rank > 1
    """)  # noqa: S608 - as above
    _refuse_data_loss(child)
    archived = f"""
        WITH gone AS (
            DELETE FROM {child.root} t USING adoption_rivals r WHERE {PLACE}
            RETURNING r.adoption_removed, r.adoption_kept, to_jsonb(t) AS content)
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{LOST}', :adoption_name, content, adoption_removed, adoption_kept FROM gone
    """  # noqa: S608 - as above
    run(archived, adoption_name=child.name)
    run("DROP TABLE adoption_rivals")


def _refuse_data_loss(child: ReferringTable) -> None:
    """Raise RuntimeError if rows to archive are of other profiles, or other rows refer to them."""
    if not fetch_value("SELECT EXISTS (SELECT 1 FROM adoption_rivals)"):
        return
    is_theirs = "adoption_removed IS NULL OR NOT is_own"
    if child.name in NEVER_ARCHIVED or fetch_value(
        f"SELECT EXISTS (SELECT 1 FROM adoption_rivals WHERE {is_theirs})"  # noqa: S608 - constants
    ):
        raise RuntimeError(
            f"{child.name} has no room for the rows of two profiles of one person: merge these "
            "profiles by hand, then try again"
        )
    for grandchild in referring_to(child.name):
        found = " OR ".join(f"({r.matches('g', 't')})" for r in grandchild.references)
        query = f"""
            SELECT EXISTS (SELECT 1 FROM {grandchild.rows} g, {child.root} t, adoption_rivals r
                            WHERE ({found}) AND {PLACE}
                              AND (g.tableoid, g.ctid) <> (t.tableoid, t.ctid))
        """  # noqa: S608 - as above
        if fetch_value(query):
            raise RuntimeError(
                f"{grandchild.name} refers to rows of {child.name} that two profiles of one person "
                "have for the same key; decide there which one stays, then try again"
            )


def _move_rows(child: ReferringTable) -> None:
    """Move the rows to the kept profiles; store for each its key and what it referred to."""
    columns, key = child.columns, primary_key(child)
    _refuse_detached_rows(child)
    changes = ", ".join(f"{quoted(name)} = r.{quoted(name)}" for name in columns)
    values = ", ".join(f"{child.moved_value(name)} AS {quoted(name)}" for name in columns)
    former = ", ".join(f"{literal(name)}, {child.former_value(name)}" for name in columns)
    is_kept = (
        "true" if key is None else "f.key = ANY (CAST(:adoption_key AS text[])) OR was ? f.key"
    )
    statement_text = f"""
        WITH moved AS (
            UPDATE {child.root} t SET {changes}
              FROM (SELECT t.tableoid AS adoption_table, t.ctid AS adoption_place,
                           {child.removed_value("removed_id")} AS adoption_removed,
                           {child.removed_value("kept_id")} AS adoption_kept,
                           jsonb_strip_nulls(jsonb_build_object({former})) AS adoption_was,
                           {values}
                      FROM {child.rows} t {child.removed_joins}
                     WHERE {child.refers_to_removed}) AS r
             WHERE {PLACE}
            RETURNING r.adoption_removed, r.adoption_kept, r.adoption_was AS was,
                      to_jsonb(t) AS is_now)
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{MOVED}', :adoption_name, jsonb_build_object('was', was, 'row', (
                   SELECT jsonb_object_agg(f.key, f.value) FROM jsonb_each(is_now) f
                    WHERE {is_kept})),
               adoption_removed, adoption_kept
          FROM moved
    """  # noqa: S608 - as above
    run(statement_text, adoption_name=child.name, **({} if key is None else {"adoption_key": key}))


def _refuse_detached_rows(child: ReferringTable) -> None:
    """Raise RuntimeError where a kept profile lacks the referenced value, which detaches rows."""
    for n, reference in enumerate(child.references):
        missing = " OR ".join(f"k{n}.{quoted(target)} IS NULL" for target in reference.targets)
        query = f"SELECT EXISTS (SELECT 1 FROM {child.rows} t {child.removed_joins} WHERE {child.refers_to_removed} AND l{n}.removed_id IS NOT NULL AND ({missing}))"  # noqa: E501, S608 - as above
        if fetch_value(query):
            raise RuntimeError(
                f"{child.name} refers to {', '.join(reference.targets)} of profiles whose kept "
                "profile has none; fill it in, then try again"
            )


def _refuse_unmoved_rows(child: ReferringTable) -> None:
    """Raise RuntimeError for unmoved rows: triggers and rules may silently prevent an update."""
    query = f"""
        SELECT EXISTS (SELECT 1 FROM {child.rows} t {child.removed_joins}
                        WHERE {child.refers_to_removed})
    """  # noqa: S608 - as above
    if fetch_value(query):
        raise RuntimeError(
            f"rows of {child.name} do not follow to another profile: a trigger or a rule keeps them"
        )


@contextmanager
def _temporary_indexes(children: list[ReferringTable]) -> Iterator[None]:
    """Create missing indexes of referring columns, and drop them at the end.

    Without them PostgreSQL scans each referring table once for every deleted profile.
    """
    names = []
    for number, child in enumerate(children):
        for place, reference in enumerate(child.references):
            parameters = {"oid": child.oid, "name": reference.columns[0]}
            if child.is_ours_to_alter and not op.get_bind().scalar(LEADING_INDEX, parameters):
                names.append(f"adoption_lookup_{number}_{place}")
                columns = column_list(reference.columns)
                run(f"CREATE INDEX {names[-1]} ON {child.name} ({columns})")
                names[-1] = _schema_of(child) + names[-1]
    yield
    for name in names:
        run(f"DROP INDEX {name}")


def _schema_of(child: ReferringTable) -> str:
    query = "SELECT quote_ident(nspname) || '.' FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.oid = CAST(:oid AS oid)"  # noqa: E501
    return str(op.get_bind().scalar(sa.text(query), {"oid": child.oid}))


def _restore(table: str) -> None:
    """Insert the archived rows again; a profile whose user is gone is restored without user."""
    columns = columns_of(table)
    names = [quoted(column.name) for column in columns if column.is_plain]
    content = "a.content"
    if table == "mentorados":
        content = """CASE WHEN EXISTS (SELECT 1 FROM users u
                                        WHERE u.id = (a.content ->> 'user_id')::bigint)
                          THEN a.content ELSE a.content || '{"user_id": null}' END"""
    restore = f"""
        INSERT INTO {table} ({", ".join(names)}) OVERRIDING SYSTEM VALUE
        SELECT {", ".join(f"r.{name}" for name in names)}
          FROM archived_rows a, jsonb_populate_record(NULL::{table}, {content}) r
         WHERE a.reason = '{LOST}' AND a.table_name = :adoption_name
    """  # noqa: S608 - as above
    run(restore, adoption_name=table)


def _move_back(child: ReferringTable) -> None:
    """Restore the former references of moved rows, one statement for each set of columns."""
    found = f"SELECT DISTINCT ARRAY(SELECT jsonb_object_keys(content -> 'was') ORDER BY 1) FROM ({NOTES}) n"  # noqa: E501, S608 - as above
    column_sets = (
        op.get_bind().execute(statement(found), {"adoption_name": child.name}).scalars().all()
    )
    key = primary_key(child)
    for columns in column_sets:
        if key is None:
            _move_back_by_content(child, columns)
        else:
            _move_back_by_key(child, columns, [*key, *(c for c in columns if c not in key)])


def _move_back_by_key(child: ReferringTable, columns: list[str], key: list[str]) -> None:
    same = (f"to_jsonb(t.{quoted(n)}) = n.content -> 'row' -> {literal(n)}" for n in key)
    back = f"""
        UPDATE {child.root} t SET {_old_values(child, columns)} FROM ({NOTES}) n
         WHERE {" AND ".join(same)} AND {_has_columns(columns)}
    """  # noqa: S608 - as above
    run(back, adoption_name=child.name)


def _move_back_by_content(child: ReferringTable, columns: list[str]) -> None:
    """Match rows of a table without primary key by content; equal rows are interchangeable."""
    back = f"""
        UPDATE {child.root} t SET {_old_values(child, columns)}
          FROM (SELECT c.tableoid AS adoption_table, c.ctid AS adoption_place,
                       to_jsonb(c) AS content, row_number() OVER (PARTITION BY to_jsonb(c)) AS nth
                  FROM {child.root} c) AS r
          JOIN (SELECT n.content, n.content -> 'row' AS row_content,
                       row_number() OVER (PARTITION BY n.content -> 'row') AS nth
                  FROM ({NOTES}) n WHERE {_has_columns(columns)}) AS n
            ON n.row_content = r.content AND n.nth = r.nth
         WHERE {PLACE}
    """  # noqa: S608 - as above
    run(back, adoption_name=child.name)


def _old_values(child: ReferringTable, columns: Iterable[str]) -> str:
    """Return the SET clause that restores the values of note `n` in row `t`."""
    record = f"jsonb_populate_record(NULL::{child.name}, n.content -> 'was')"
    return ", ".join(f"{quoted(name)} = ({record}).{quoted(name)}" for name in columns)


def _has_columns(columns: Iterable[str]) -> str:
    """Return the condition that note `n` has exactly these columns."""
    names = ", ".join(map(literal, columns))
    return f"ARRAY(SELECT jsonb_object_keys(n.content -> 'was') ORDER BY 1) = ARRAY[{names}]"
