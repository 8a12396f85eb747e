"""Compare e-mail addresses as mail does: NFC, ASCII letters without case, domains by A-labels.

Before, compatibility forms were folded and case depended on the locale, so that two mailboxes could
have the same key. `core.email_address.normalize_address` returns the same keys.

1. The old function is renamed; its indexes keep using it.
2. The new functions and indexes are created. No index ever contains keys of both functions.
3. Pairs of rows that match by one function only are printed, by their ids.
4. The old function and its indexes are dropped.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations import address_tables as table

revision = "0016"
down_revision = "0015"

INDEXES = {
    "users_normalized_email_idx": "users (normalized_address(email))",
    "mentorados_unlinked_email_idx": (
        "mentorados (normalized_address(email)) WHERE user_id IS NULL"
    ),
}
# Addresses of profiles with an owner, except automatic copies of the owner's address: a sweep may
# create a million of those, and index entries would slow it down.
CARRIED = "mentorados_carried_email_idx"
CREATE_CARRIED = f"""
CREATE INDEX {CARRIED} ON mentorados (normalized_address(email))
    WHERE user_id IS NOT NULL AND NOT (created_automatically AND edited_at IS NULL)
"""
BEFORE = "normalized_address_before"
MOST_PAIRS = 1_000  # printed pairs
# The white space of `core.email_address.WHITE_SPACE`.
ASCII_WHITE_SPACE = r"E'\t\n\x0B\f\r\x1C\x1D\x1E\x1F '"
WHITE_SPACE = (
    r"E'\t\n\x0B\f\r\x1C\x1D\x1E\x1F \u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    r"\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000'"
)

# Everything below is independent of locale and collation: under "C", lower() changes ASCII letters
# only. Functions of indexes run with a restricted search path. Those in PL/pgSQL therefore call no
# function of this program, and the others are parsed when they are created.
COMPOSED = f"""
CREATE FUNCTION composed_address_part(part text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    -- What Unicode 13 has assigned; its composition is the same in every later version.
    assigned CONSTANT int4multirange := '{table.ASSIGNED}'::int4multirange;
    -- NFC would make ASCII characters of them: Greek question mark and grave accent, Kelvin sign.
    becomes_ascii CONSTANT integer[] := ARRAY[894, 8175, 8490];
    is_settled boolean;
BEGIN
    SELECT coalesce(bool_and(assigned @> ascii(c) AND ascii(c) <> ALL (becomes_ascii)), true)
      INTO is_settled FROM unnest(string_to_array(part, NULL)) AS c;
    RETURN lower(CASE WHEN is_settled THEN normalize(part, NFC) ELSE part END COLLATE "C");
END $$
"""  # noqa: S608 - built from constants

# RFC 5891 section 4 (labels), RFC 5892 (characters), RFC 5893 (directions), RFC 3492 (Punycode).
# Returns the domain itself where one of its labels has no A-label.
DOMAIN_KEY = f"""
CREATE FUNCTION domain_key(domain text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    assigned CONSTANT int4multirange := '{table.ASSIGNED}'::int4multirange;
    valid CONSTANT int4multirange := '{table.VALID}'::int4multirange;
    marks CONSTANT int4multirange := '{table.MARKS}'::int4multirange;
    viramas CONSTANT int4multirange := '{table.VIRAMAS}'::int4multirange;
    joins_next CONSTANT int4multirange := '{table.JOINS_NEXT}'::int4multirange;
    joins_previous CONSTANT int4multirange := '{table.JOINS_PREVIOUS}'::int4multirange;
    transparent CONSTANT int4multirange := '{table.TRANSPARENT}'::int4multirange;
    right_to_left CONSTANT int4multirange := '{table.RIGHT_TO_LEFT}'::int4multirange;
    arabic_numbers CONSTANT int4multirange := '{table.ARABIC_NUMBERS}'::int4multirange;
    european_numbers CONSTANT int4multirange := '{table.EUROPEAN_NUMBERS}'::int4multirange;
    nonspacing CONSTANT int4multirange := '{table.NONSPACING}'::int4multirange;
    neutral CONSTANT int4multirange := '{table.NEUTRAL}'::int4multirange;
    greek CONSTANT int4multirange := '{table.GREEK}'::int4multirange;
    hebrew CONSTANT int4multirange := '{table.HEBREW}'::int4multirange;
    kana_and_han CONSTANT int4multirange := '{table.KANA_AND_HAN}'::int4multirange;
    digits CONSTANT text := 'abcdefghijklmnopqrstuvwxyz0123456789';
    has_final_dot CONSTANT boolean := right(domain, 1) = '.' COLLATE "C";
    label text;
    encoded text;
    labels text[] := '{{}}';
    is_encoded boolean;
    points integer[];
    point integer;
    number integer;
    characters text;
    joins text;
    directions text;
    -- of Punycode
    n bigint; delta bigint; w bigint; q bigint; before bigint;
    bias integer; k integer; t integer; at integer; digit integer; handled integer; basic integer;
BEGIN
    -- Characters that Unicode 13 does not know are of no label, nor is what NFC makes ASCII of.
    IF octet_length(domain) = char_length(domain) OR char_length(domain) > 254
       OR NOT (SELECT bool_and(assigned @> ascii(c)) FROM unnest(string_to_array(domain, NULL)) c)
    THEN
        RETURN domain;
    END IF;
    FOREACH label IN ARRAY
        string_to_array(CASE WHEN has_final_dot THEN left(domain, -1) ELSE domain END, '.')
    LOOP
        is_encoded := left(label, 4) = 'xn--' COLLATE "C";
        IF is_encoded THEN
            -- Decode (RFC 3492 section 6.2). Whether this was the one way to encode shows below.
            characters := substr(label, 5);
            at := char_length(characters) - strpos(reverse(characters), '-') + 1;
            IF at > char_length(characters) THEN
                at := 0;
            END IF;
            points := ARRAY(SELECT ascii(c) FROM unnest(string_to_array(
                left(characters, greatest(at - 1, 0)), NULL)) WITH ORDINALITY AS s(c, i)
                ORDER BY i);
            n := 128; delta := 0; bias := 72;
            WHILE at < char_length(characters) LOOP
                before := delta; w := 1; k := 36;
                LOOP
                    at := at + 1;
                    digit := strpos(digits, substr(characters, at, 1)) - 1;
                    IF at > char_length(characters) OR digit < 0 THEN
                        RETURN domain;
                    END IF;
                    delta := delta + digit * w;
                    IF delta > 2147483647 THEN
                        RETURN domain;
                    END IF;
                    t := least(greatest(k - bias, 1), 26);
                    EXIT WHEN digit < t;
                    w := w * (36 - t);
                    k := k + 36;
                END LOOP;
                handled := cardinality(points) + 1;
                q := CASE WHEN before = 0 THEN (delta - before) / 700
                          ELSE (delta - before) / 2 END;
                q := q + q / handled;
                k := 0;
                WHILE q > 455 LOOP
                    q := q / 35;
                    k := k + 36;
                END LOOP;
                bias := k + 36 * q / (q + 38);
                n := n + delta / handled;
                delta := delta % handled;
                IF n > 1114111 THEN
                    RETURN domain;
                END IF;
                points := points[1:delta::integer] || n::integer || points[delta::integer + 1:];
                delta := delta + 1;
            END LOOP;
        ELSE
            points := ARRAY(SELECT ascii(c) FROM unnest(string_to_array(label, NULL))
                WITH ORDINALITY AS s(c, i) ORDER BY i);
        END IF;

        number := cardinality(points);
        IF number NOT BETWEEN 1 AND 63
           OR (points[3] = 45 AND points[4] = 45) OR points[1] = 45 OR points[number] = 45
           OR marks @> points[1]
        THEN
            RETURN domain;
        END IF;
        joins := ''; directions := '';
        FOREACH point IN ARRAY points LOOP
            joins := joins || CASE
                WHEN transparent @> point THEN 'T'
                WHEN joins_next @> point AND joins_previous @> point THEN 'D'
                WHEN joins_next @> point THEN 'L'
                WHEN joins_previous @> point THEN 'R' ELSE 'U' END;
            directions := directions || CASE
                WHEN right_to_left @> point THEN 'R' WHEN arabic_numbers @> point THEN 'A'
                WHEN european_numbers @> point THEN 'E' WHEN nonspacing @> point THEN 'M'
                WHEN neutral @> point THEN 'N' ELSE 'L' END;
        END LOOP;
        FOR i IN 1..number LOOP
            point := points[i];
            CONTINUE WHEN valid @> point;
            CONTINUE WHEN CASE point
                WHEN 8204 THEN viramas @> points[i - 1]  -- zero width non-joiner
                    OR (left(joins, i - 1) COLLATE "C" ~ '[LD]T*$'
                        AND substr(joins, i + 1) COLLATE "C" ~ '^T*[RD]')
                WHEN 8205 THEN viramas @> points[i - 1]  -- zero width joiner
                WHEN 183 THEN points[i - 1] = 108 AND points[i + 1] = 108  -- middle dot in l·l
                WHEN 885 THEN greek @> points[i + 1]
                WHEN 1523 THEN hebrew @> points[i - 1]
                WHEN 1524 THEN hebrew @> points[i - 1]
                WHEN 12539 THEN  -- katakana middle dot
                    (SELECT bool_or(kana_and_han @> p) FROM unnest(points) AS p WHERE p <> 12539)
                ELSE CASE
                    WHEN point BETWEEN 1632 AND 1641 THEN  -- Arabic-Indic digits
                        NOT (SELECT bool_or(p BETWEEN 1776 AND 1785) FROM unnest(points) AS p)
                    WHEN point BETWEEN 1776 AND 1785 THEN  -- extended ones
                        NOT (SELECT bool_or(p BETWEEN 1632 AND 1641) FROM unnest(points) AS p)
                    ELSE false END
                END;
            RETURN domain;
        END LOOP;
        IF directions COLLATE "C" ~ '[RA]' AND NOT (
            directions COLLATE "C" ~ '^R([^L]*[REA])?M*$'
            AND NOT directions COLLATE "C" ~ 'E.*A|A.*E')
        THEN
            RETURN domain;
        END IF;

        basic := (SELECT count(*) FROM unnest(points) AS p WHERE p < 128);
        IF basic = number THEN
            IF is_encoded THEN
                RETURN domain;
            END IF;
            labels := labels || label;
            CONTINUE;
        END IF;
        characters := (SELECT string_agg(chr(p), '' ORDER BY i)
                         FROM unnest(points) WITH ORDINALITY AS s(p, i));
        IF characters COLLATE "C" <> normalize(characters, NFC) THEN
            RETURN domain;
        END IF;
        -- Encode (RFC 3492 section 6.3).
        encoded := coalesce((SELECT string_agg(chr(p), '' ORDER BY i) || '-'
                               FROM unnest(points) WITH ORDINALITY AS s(p, i) WHERE p < 128), '');
        n := 128; delta := 0; bias := 72; handled := basic;
        WHILE handled < number LOOP
            before := n;
            n := (SELECT min(p) FROM unnest(points) AS p WHERE p >= before);
            delta := delta + (n - before) * (handled + 1);
            FOREACH point IN ARRAY points LOOP
                IF point < n THEN
                    delta := delta + 1;
                ELSIF point = n THEN
                    q := delta; k := 36;
                    LOOP
                        t := least(greatest(k - bias, 1), 26);
                        EXIT WHEN q < t;
                        encoded := encoded
                            || substr(digits, (t + (q - t) % (36 - t))::integer + 1, 1);
                        q := (q - t) / (36 - t);
                        k := k + 36;
                    END LOOP;
                    encoded := encoded || substr(digits, q::integer + 1, 1);
                    q := CASE WHEN handled = basic THEN delta / 700 ELSE delta / 2 END;
                    q := q + q / (handled + 1);
                    k := 0;
                    WHILE q > 455 LOOP
                        q := q / 35;
                        k := k + 36;
                    END LOOP;
                    bias := k + 36 * q / (q + 38);
                    delta := 0;
                    handled := handled + 1;
                END IF;
            END LOOP;
            delta := delta + 1;
            n := n + 1;
        END LOOP;
        encoded := 'xn--' || encoded;
        IF char_length(encoded) > 63 OR (is_encoded AND encoded COLLATE "C" <> label) THEN
            RETURN domain;
        END IF;
        labels := labels || encoded;
    END LOOP;
    encoded := array_to_string(labels, '.');
    IF char_length(encoded) > 253 THEN
        RETURN domain;
    END IF;
    RETURN encoded || CASE WHEN has_final_dot THEN '.' ELSE '' END;
END $$
"""  # noqa: S608 - built from constants

# Without an @ the whole text counts as domain, as in `str.rpartition`.
INTERNATIONAL = f"""
CREATE FUNCTION international_address(address text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT composed_address_part(part.local) || domain_key(composed_address_part(part.domain))
      FROM (SELECT substring(trimmed.address FROM '^(?:.*@)?') AS local,
                   substring(trimmed.address FROM '[^@]*$') AS domain
              FROM (SELECT btrim(international_address.address, {WHITE_SPACE}) COLLATE "C"
                           AS address) AS trimmed) AS part;
END
"""  # noqa: S608 - built from constants
# PostgreSQL inlines this expression, so that addresses in ASCII take almost no time.
NORMALIZED = f"""
CREATE FUNCTION normalized_address(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(
    CASE WHEN octet_length(address) = char_length(address)
         THEN lower(btrim(address, {ASCII_WHITE_SPACE}) COLLATE "C")
         ELSE international_address(address) END, '')
"""
# As in 0003.
NORMALIZED_BEFORE = r"""
CREATE FUNCTION normalized_address(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(lower(btrim(normalize(address, NFKC), E' \t\n\r\f\x0B')), '')
"""
FUNCTIONS = (COMPOSED, DOMAIN_KEY, INTERNATIONAL, NORMALIZED)

# A pair whose match changes contains a row whose key changes. Users match by verified addresses
# only, profiles only without owner. An owner and the own profile may have been linked by a match.
PAIRS = f"""
WITH keys AS MATERIALIZED (
    SELECT 'user' AS kind, id, id AS owner, email_verified AS is_proven,
           {BEFORE}(email) AS old, normalized_address(email) AS new
      FROM users WHERE email IS NOT NULL
    UNION ALL
    SELECT 'mentorado', id, user_id, true, {BEFORE}(email), normalized_address(email)
      FROM mentorados WHERE email IS NOT NULL),
changed AS MATERIALIZED (SELECT * FROM keys WHERE old IS DISTINCT FROM new),
found AS (
    SELECT 'no longer one address' AS change, c.kind AS kind, c.id AS id, c.owner AS owner,
           o.kind AS other_kind, o.id AS other_id, o.owner AS other_owner
      FROM changed AS c JOIN keys AS o ON o.old = c.old AND o.new IS DISTINCT FROM c.new
     WHERE c.is_proven AND o.is_proven
    UNION
    SELECT 'one address from now on', c.kind, c.id, c.owner, o.kind, o.id, o.owner
      FROM changed AS c JOIN keys AS o ON o.new = c.new AND o.old IS DISTINCT FROM c.old
     WHERE c.is_proven AND o.is_proven)
SELECT DISTINCT change,
       CASE WHEN is_first THEN kind ELSE other_kind END AS one_kind,
       CASE WHEN is_first THEN id ELSE other_id END AS one_id,
       CASE WHEN is_first THEN other_kind ELSE kind END AS two_kind,
       CASE WHEN is_first THEN other_id ELSE id END AS two_id
  FROM (SELECT *, (kind, -id) > (other_kind, -other_id) AS is_first FROM found) AS found
 WHERE (kind, id) <> (other_kind, other_id)
   AND (kind = 'user' OR owner IS NULL OR (other_kind = 'user' AND owner = other_owner))
   AND (other_kind = 'user' OR other_owner IS NULL OR (kind = 'user' AND owner = other_owner))
 ORDER BY change, one_kind DESC, one_id, two_kind, two_id
 LIMIT {MOST_PAIRS + 1}
"""  # noqa: S608 - built from constants
# An installation that is adopted in this transaction has no matches yet.
IS_BEING_ADOPTED = "SELECT EXISTS (SELECT 1 FROM adoptions WHERE at = now())"


def upgrade() -> None:
    _rename_what_is_there()
    for function in FUNCTIONS:
        op.execute(function)
    _create_indexes()
    op.execute(CREATE_CARRIED)
    if not op.get_bind().scalar(sa.text(IS_BEING_ADOPTED)):
        _report(op.get_bind().execute(sa.text(PAIRS)).all())
    _drop_what_was_there()


def downgrade() -> None:
    op.execute(f"DROP INDEX {CARRIED}")
    _rename_what_is_there()
    op.execute(NORMALIZED_BEFORE)
    _create_indexes()
    _drop_what_was_there()
    op.execute("DROP FUNCTION international_address(text)")
    op.execute("DROP FUNCTION domain_key(text)")
    op.execute("DROP FUNCTION composed_address_part(text)")


def _rename_what_is_there() -> None:
    """Rename the old function and its indexes, where they exist."""
    for name in INDEXES:
        op.execute(f"ALTER INDEX IF EXISTS {name} RENAME TO {name}_before")
    op.execute(f"ALTER FUNCTION normalized_address(text) RENAME TO {BEFORE}")


def _create_indexes() -> None:
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")


def _drop_what_was_there() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}_before")
    op.execute(f"DROP FUNCTION {BEFORE}(text)")


def _report(pairs: Sequence[sa.Row]) -> None:
    """Print the pairs by their ids; addresses must not get into a log."""
    if not pairs:
        return
    print("e-mail addresses are compared by new rules, see docs/operations.md:")
    for pair in pairs[:MOST_PAIRS]:
        print(f"  {pair.change}: {pair.one_kind} {pair.one_id} and {pair.two_kind} {pair.two_id}")
    if len(pairs) > MOST_PAIRS:
        print(f"  and more: only {MOST_PAIRS} pairs are listed")
