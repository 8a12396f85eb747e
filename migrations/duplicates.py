"""Several profiles of one person become one: whose rows stay, where the others go, the way back.

The keeper is the one with months or feedback, else the one that anything refers to, else the older,
else the lower id. Everything is set-based and in the migration's own transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

LOST = "adoption"  # reason in archived_rows: the row as it was
MOVED = "adoption: moved"  # only where it was; the row itself has changed hands

REFERENCES = sa.text("""
    SELECT c.conrelid::regclass::text, quote_ident(a.attname), quote_ident(f.attname)
      FROM pg_constraint c
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
      JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1]
     WHERE c.confrelid = to_regclass(:table) AND c.contype = 'f' AND c.conparentid = 0
     ORDER BY 1, 2
""")
# The columns of each unique index of a table that has the given column among them.
UNIQUE_KEYS = sa.text("""
    SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum) AS names,
           pg_get_expr(i.indpred, i.indrelid) AS condition,
           0 = ANY (i.indkey) AS has_expressions
      FROM pg_index i
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = to_regclass(:child) AND i.indisunique
     GROUP BY i.indexrelid, i.indpred, i.indrelid, i.indkey
""")
# What a row can be given: generated columns make themselves.
PLAIN_COLUMNS = sa.text("""
    SELECT quote_ident(attname) FROM pg_attribute
     WHERE attrelid = to_regclass(:table) AND attnum > 0
       AND NOT attisdropped AND attgenerated = ''
     ORDER BY attnum
""")
LEADING_INDEX = sa.text("""
    SELECT EXISTS (
        SELECT 1 FROM pg_index i
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = to_regclass(:child) AND quote_ident(a.attname) = :name
           AND i.indpred IS NULL AND i.indisvalid)
""")
PRIMARY_KEY = sa.text("""
    SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum)
      FROM pg_index i
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = to_regclass(:child) AND i.indisprimary
""")


def settle() -> None:
    """Leave each person one profile; raises RuntimeError, and changes nothing, where a row would
    be lost.
    """
    children = _children()
    _find_losers(children)
    if not op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT 1 FROM losers)")):
        return
    _note_decisions()
    with _quick_lookups(children):
        for child, name in children:
            _archive_rivals(child, name)
            _move(child, name)
        _archive_losers()


def bring_back() -> None:
    """Put everything where it was before, as far as it is still there."""
    _restore("mentorados")
    for child, name in _children():
        _move_back(child, name)
        _restore(child)
    op.execute(f"DELETE FROM archived_rows WHERE reason IN ('{LOST}', '{MOVED}')")  # noqa: S608 - constants


def _children() -> list[tuple[str, str]]:
    return [(child, name) for child, name, _ in _references("mentorados")]


def _references(table: str) -> list[tuple[str, str, str]]:
    """Tables with the column that points at this one, and the column it points at."""
    return [tuple(row) for row in op.get_bind().execute(REFERENCES, {"table": table})]


def _find_losers(children: list[tuple[str, str]]) -> None:
    """Who has to go, in favour of whom, and what has decided it."""
    reports = ("metricas_mensais", "feedbacks")
    history = " OR ".join(_refers(child, name) for child, name in children if child in reports)
    anything = " OR ".join(_refers(child, name) for child, name in children)
    op.execute(f"""
        CREATE TEMPORARY TABLE losers ON COMMIT DROP AS
        WITH several AS (
            SELECT m.id, m.user_id, m.created_at,
                   ({history or "false"}) AS has_history, ({anything or "false"}) AS is_used
              FROM mentorados m
             WHERE m.user_id IN (
                   SELECT user_id FROM mentorados GROUP BY user_id HAVING count(user_id) > 1)
        ), ranked AS (
            SELECT *, first_value(id) OVER best AS keeper_id, row_number() OVER best AS place
              FROM several
            WINDOW best AS (
                   PARTITION BY user_id ORDER BY has_history DESC, is_used DESC, created_at, id)
        )
        SELECT r.id AS loser_id, r.keeper_id, r.user_id, r.place,
               CASE WHEN k.has_history AND NOT r.has_history THEN 'history'
                    WHEN k.is_used AND NOT r.is_used THEN 'used'
                    WHEN k.created_at < r.created_at THEN 'older'
                    ELSE 'first' END AS why
          FROM ranked r JOIN several k ON k.id = r.keeper_id WHERE r.place > 1
    """)  # noqa: S608 - names from the catalogue, quoted there
    op.execute("CREATE UNIQUE INDEX ON losers (loser_id)")
    op.execute("ANALYZE losers")


def _note_decisions() -> None:
    op.execute("""
        UPDATE adoptions SET facts = facts || jsonb_build_object('decisions', (
            SELECT jsonb_agg(jsonb_build_object(
                       'user_id', user_id, 'keeper_id', keeper_id, 'loser_id', loser_id, 'why', why
                   ) ORDER BY user_id, loser_id)
              FROM losers))
    """)


def _refers(child: str, name: str) -> str:
    return f"EXISTS (SELECT 1 FROM {child} c WHERE c.{name} = m.id)"  # noqa: S608 - as above


def _archive_rivals(child: str, name: str) -> None:
    """Of rows for which there is room for one, the keeper's stays, then the better placed one's."""
    for names, condition, has_expressions in op.get_bind().execute(UNIQUE_KEYS, {"child": child}):
        if name not in names:
            continue
        if has_expressions:
            raise RuntimeError(f"{child} has a unique index of expressions: merge these by hand")
        _archive_rivals_by(child, name, [n for n in names if n != name], condition or "true")


def _archive_rivals_by(child: str, name: str, others: list[str], condition: str) -> None:
    same = ", ".join(["coalesce(l.keeper_id, t." + name + ")", *(f"t.{n}" for n in others)])
    known = " AND ".join([f"({condition})", *(f"t.{n} IS NOT NULL" for n in others)])
    op.execute(f"""
        CREATE TEMPORARY TABLE rivals ON COMMIT DROP AS
        SELECT * FROM (
            SELECT t.ctid AS place, l.loser_id, l.keeper_id,
                   row_number() OVER (PARTITION BY {same}
                                          ORDER BY l.place NULLS FIRST, t.ctid) AS rank
              FROM {child} t LEFT JOIN losers l ON l.loser_id = t.{name}
             WHERE {known} AND t.{name} IN (SELECT loser_id FROM losers
                                             UNION SELECT keeper_id FROM losers)
        ) AS ranked WHERE rank > 1
    """)  # noqa: S608 - as above
    _refuse_to_lose_children(child)
    op.execute(f"""
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{LOST}', '{child}', to_jsonb(t), r.loser_id, r.keeper_id
          FROM {child} t JOIN rivals r ON r.place = t.ctid
    """)  # noqa: S608 - as above
    op.execute(f"DELETE FROM {child} t USING rivals r WHERE r.place = t.ctid")  # noqa: S608 - as above
    op.execute("DROP TABLE rivals")


def _refuse_to_lose_children(child: str) -> None:
    """What refers to a row that goes would go with it, or keep the migration from ending."""
    for grandchild, name, target in _references(child):
        query = f"""
            SELECT EXISTS (SELECT 1 FROM {grandchild} g JOIN {child} t ON t.{target} = g.{name}
                             JOIN rivals r ON r.place = t.ctid)
        """  # noqa: S608 - as above
        if op.get_bind().scalar(sa.text(query)):
            raise RuntimeError(
                f"{grandchild} refers to rows of {child} that two profiles of one person have "
                "for the same key; decide there which one stays, then try again"
            )


def _move(child: str, name: str) -> None:
    key = _key(child, name)
    kept = ", ".join(f"t.{n}" for n in key or ())
    content = "to_jsonb(t)" if key is None else f"(SELECT to_jsonb(k) FROM (SELECT {kept}) k)"  # noqa: S608 - as above
    op.execute(f"""
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{MOVED}', '{child}', {content} || jsonb_build_object('', '{_plain(name)}'),
               l.loser_id, l.keeper_id
          FROM {child} t JOIN losers l ON l.loser_id = t.{name}
    """)  # noqa: S608 - as above
    op.execute(f"""
        UPDATE {child} t SET {name} = l.keeper_id FROM losers l WHERE l.loser_id = t.{name}
    """)  # noqa: S608 - as above


def _key(child: str, name: str) -> list[str] | None:
    """By which columns a row is found again, whoever owns it; None in a table without key."""
    found = op.get_bind().scalar(PRIMARY_KEY, {"child": child})
    return None if found is None else [n for n in found if n != name]


@contextmanager
def _quick_lookups(children: list[tuple[str, str]]) -> Iterator[None]:
    """For each profile that goes PostgreSQL looks for rows that refer to it: without an index
    through the whole table, each time. These are gone before the commit.
    """
    names = []
    for number, (child, name) in enumerate(children):
        if not op.get_bind().scalar(LEADING_INDEX, {"child": child, "name": name}):
            names.append(f"adoption_lookup_{number}")
            op.execute(f"CREATE INDEX {names[-1]} ON {child} ({name})")
    yield
    for name in names:
        op.execute(f"DROP INDEX {name}")


def _archive_losers() -> None:
    op.execute(f"""
        INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
        SELECT '{LOST}', 'mentorados', to_jsonb(m), m.id, l.keeper_id
          FROM mentorados m JOIN losers l ON l.loser_id = m.id
    """)  # noqa: S608 - constants
    op.execute("DELETE FROM mentorados m USING losers l WHERE l.loser_id = m.id")


def _restore(table: str) -> None:
    """Insert the archived rows again; whose person has gone meanwhile belongs to nobody."""
    names = op.get_bind().scalars(PLAIN_COLUMNS, {"table": table}).all()
    content = "a.content"
    if table == "mentorados":
        content = """CASE WHEN EXISTS (SELECT 1 FROM users u
                                        WHERE u.id = (a.content ->> 'user_id')::int)
                          THEN a.content ELSE a.content || '{"user_id": null}' END"""
    op.execute(f"""
        INSERT INTO {table} ({", ".join(names)}) OVERRIDING SYSTEM VALUE
        SELECT {", ".join(f"r.{name}" for name in names)}
          FROM archived_rows a, jsonb_populate_record(NULL::{table}, {content}) r
         WHERE a.reason = '{LOST}' AND a.table_name = '{table}'
    """)  # noqa: S608 - as above


def _move_back(child: str, name: str) -> None:
    key = _key(child, name)
    if key is None:
        _move_back_alike(child, name)
        return
    same = (f"to_jsonb(t) -> '{_plain(n)}' = a.content -> '{_plain(n)}'" for n in key)
    op.execute(f"""
        UPDATE {child} t SET {name} = a.mentorado_id FROM archived_rows a
         WHERE a.reason = '{MOVED}' AND a.table_name = '{child}'
           AND a.content ->> '' = '{_plain(name)}' AND t.{name} = a.kept_mentorado_id
           AND {" AND ".join(["true", *same])}
    """)  # noqa: S608 - as above


def _move_back_alike(child: str, name: str) -> None:
    """In a table without key rows that are alike are one as good as the other: count them off."""
    op.execute(f"""
        UPDATE {child} t SET {name} = moved.mentorado_id
          FROM (SELECT ctid AS place, {name} AS keeper_id,
                       to_jsonb(c) - '{_plain(name)}' AS content,
                       row_number() OVER (PARTITION BY to_jsonb(c)) AS nth
                  FROM {child} c) AS found
          JOIN (SELECT mentorado_id, kept_mentorado_id AS keeper_id,
                       content - '{_plain(name)}' - '' AS content,
                       row_number() OVER (
                           PARTITION BY kept_mentorado_id, content - '{_plain(name)}' - '') AS nth
                  FROM archived_rows
                 WHERE reason = '{MOVED}' AND table_name = '{child}'
                   AND content ->> '' = '{_plain(name)}') AS moved
         USING (keeper_id, content, nth)
         WHERE t.ctid = found.place
    """)  # noqa: S608 - as above


def _plain(name: str) -> str:
    """A column's name as JSON has it, without the quotes that SQL may need."""
    return name.strip('"').replace('""', '"').replace("'", "''")
