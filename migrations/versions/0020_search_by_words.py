"""Add what the admin console needs: indexes of its search and lists, and `users.same_person_as`.

Words are compared without accents and case, in any order and by their beginnings. All of it is
independent of the database's locale. Words of addresses keep their accents, so that a look-alike of
an address is not found in its place; they are stored with an `@` before them.

`pg_trgm` and `unaccent` would need extensions that not every server offers, see
docs/decisions/031-search-by-words.md.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

# Letters that have no decomposition, and the letter that people type instead.
PLAIN_LETTERS = ("ÆæØøŁłĐđŒœıß", "aaoollddoois")
FOLDED_TEXT = rf"""
CREATE FUNCTION folded_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN translate(
    lower(regexp_replace(normalize(value, NFKD) COLLATE "C", '[\u0300-\u036f]', '', 'g')),
    '{PLAIN_LETTERS[0]}', '{PLAIN_LETTERS[1]}')
"""
# Everything between words: ASCII without letters and digits, and spaces and marks beyond ASCII.
SEPARATORS = r"[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000]+"
LONGEST_WORD = 60
MOST_WORDS = 8  # of a search
SEARCH_WORDS = f"""
CREATE FUNCTION search_words(name text, email text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000
RETURN array_to_tsvector(ARRAY(
    SELECT left(word, {LONGEST_WORD})
      FROM regexp_split_to_table(folded_text(name) COLLATE "C", '{SEPARATORS}') AS word
     WHERE word <> ''
     UNION
    SELECT '@' || left(word, {LONGEST_WORD})
      FROM regexp_split_to_table(lower(email COLLATE "C"), '{SEPARATORS}') AS word
     WHERE word <> ''))
"""  # noqa: S608 - built from constants
# A word of one letter must match a whole word: too many words begin with it. A text with an `@` is
# searched in addresses only: a name may have the words that it shares with the address.
SEARCH_QUERY = f"""
CREATE FUNCTION search_query(wanted text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(string_agg(
        format(CASE WHEN folded = '' OR strpos(wanted, '@') > 0 THEN '''@%1$s''%3$s'
                    ELSE '(''@%1$s''%3$s | ''%2$s''%3$s)' END,
               word, folded, CASE WHEN char_length(word) > 1 THEN ':*' ELSE '' END),
        ' & '), '')::tsquery
      FROM (SELECT left(word, {LONGEST_WORD}) AS word,
                   left(regexp_replace(folded_text(word) COLLATE "C", '{SEPARATORS}', '', 'g'),
                        {LONGEST_WORD}) AS folded
              FROM regexp_split_to_table(lower(wanted COLLATE "C"), '{SEPARATORS}') AS word
             WHERE word <> '' LIMIT {MOST_WORDS}) AS words)
"""  # noqa: S608 - built from constants
FUNCTIONS = (FOLDED_TEXT, SEARCH_WORDS, SEARCH_QUERY)

# Untouched automatic profiles are left out: a sweep creates a million of them, and they carry the
# name and the address of their user, who is found instead.
INDEXES = {
    "users_search_idx": "users USING gin (search_words(name, email))",
    "mentorados_search_idx": (
        "mentorados USING gin (search_words(nome_completo, email)) "
        "WHERE user_id IS NULL OR NOT (created_automatically AND edited_at IS NULL)"
    ),
    "mentorados_active_name_idx": (
        """mentorados (folded_text(nome_completo) COLLATE "C", id) WHERE ativo = 'sim'"""
    ),
    "feedbacks_periodo_idx": "feedbacks (ano, mes)",
    "audit_events_short_code_idx": (
        'audit_events ("left"(request_id, 8)) WHERE request_id IS NOT NULL'
    ),
    "audit_events_action_idx": (
        "audit_events ((details ->> 'action'), id) WHERE event = 'admin_action'"
    ),
    "audit_events_actor_id_idx": "audit_events (actor_id, id) WHERE actor_id IS NOT NULL",
    "provisioning_attempts_short_code_idx": 'provisioning_attempts ("left"(request_id, 8))',
}


def upgrade() -> None:
    op.add_column("users", sa.Column("same_person_as", sa.Integer))
    for function in FUNCTIONS:
        op.execute(function)
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")


def downgrade() -> None:
    for name in reversed(INDEXES):
        op.execute(f"DROP INDEX {name}")
    op.execute("DROP FUNCTION search_query(text)")
    op.execute("DROP FUNCTION search_words(text, text)")
    op.execute("DROP FUNCTION folded_text(text)")
    op.drop_column("users", "same_person_as")
