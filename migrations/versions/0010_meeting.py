"""A function that meets a person, so that each connection plans its statements only once.

Written as one message from outside, the same statements cost the server more time to plan than to
do. A function also keeps its plans where a transaction-mode pooler forbids prepared statements.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# What is not known never overwrites what is, and older news only fills gaps (`as_of` is NULL for
# somebody who just comes by: that is always news).
IS_NEWS = "(told_as_of < users.identity_as_of) IS NOT TRUE"


def _merged(column: str) -> str:
    return f"""{column} = CASE WHEN {IS_NEWS} THEN coalesce(told_{column}, users.{column})
        ELSE coalesce(users.{column}, told_{column}) END"""


# An address without a word about its verification keeps the old verdict only while it stays the
# same address; a verdict without an address says that there is none any longer.
CHANGES = f"""
    {_merged("name")},
    {_merged("image_url")},
    {_merged("login_method")},
    email = CASE WHEN {IS_NEWS} THEN coalesce(told_email, users.email) ELSE users.email END,
    email_verified = CASE
        WHEN NOT ({IS_NEWS}) THEN users.email_verified
        WHEN told_email IS NULL THEN users.email_verified AND coalesce(told_verified, true)
        ELSE coalesce(told_verified, users.email_verified
            AND normalized_address(users.email) = normalized_address(told_email)) END,
    identity_as_of = CASE WHEN told_all
        THEN greatest(told_as_of, users.identity_as_of) ELSE users.identity_as_of END,
    identity_completed_at = CASE WHEN told_all THEN moment ELSE users.identity_completed_at END,
    updated_at = moment,
    last_signed_in = CASE WHEN signs_in THEN moment ELSE users.last_signed_in END
"""

# UPDATE first, because INSERT … ON CONFLICT would use up an id of the 32-bit sequence at every
# login. Both leave the row locked, so that calls for one person queue up there; as the function is
# VOLATILE each of its statements sees what was committed before it began.
#
# A plan is kept for as long as the connection lives, or until the next ANALYZE: one that was made
# with few people must serve when there are many. Hence no sequential scans, and no ORDER BY that a
# walk along the primary key could satisfy; in which order two matches come is nobody's business.
MEET = f"""
CREATE FUNCTION meet_person(
    who text, told_name text, told_email text, told_verified boolean, told_image_url text,
    told_login_method text, told_all boolean, told_as_of timestamptz,
    signs_in boolean, moment timestamptz, address_locks integer, switch_key text
) RETURNS TABLE (person users, profile mentorados, switch jsonb, matches integer[])
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    UPDATE users SET {CHANGES} WHERE users.clerk_id = who RETURNING users.* INTO person;
    IF NOT FOUND THEN
        INSERT INTO users (clerk_id, name, email, email_verified, image_url, login_method,
                           identity_as_of, identity_completed_at,
                           created_at, updated_at, last_signed_in)
        VALUES (who, told_name, told_email, coalesce(told_verified, false), told_image_url,
                told_login_method, CASE WHEN told_all THEN told_as_of END,
                CASE WHEN told_all THEN moment END, moment, moment, moment)
        ON CONFLICT (clerk_id) DO UPDATE SET {CHANGES}
        RETURNING users.* INTO person;
    END IF;
    SELECT own.* INTO profile FROM mentorados AS own WHERE own.user_id = person.id;
    matches := '{{}}';
    -- Only where a waiting profile could still become theirs: there is none of their own, or one
    -- that could make room. Others of this address, and whoever pre-registers it, wait meanwhile.
    IF person.email_verified
       AND (profile.id IS NULL OR (profile.created_automatically AND profile.edited_at IS NULL))
    THEN
        PERFORM pg_advisory_xact_lock(address_locks, hashtext(normalized_address(person.email)));
        matches := ARRAY(
            SELECT waiting.id FROM mentorados AS waiting
             WHERE waiting.user_id IS NULL
               AND normalized_address(waiting.email) = normalized_address(person.email)
             LIMIT 2);
    END IF;
    SELECT stored.value INTO switch FROM app_settings AS stored WHERE stored.key = switch_key;
    RETURN NEXT;
END $$
"""  # noqa: S608 - built from constants of this file only


def upgrade() -> None:
    op.execute(MEET)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION meet_person(text, text, text, boolean, text, text, boolean, timestamptz,
                                  boolean, timestamptz, integer, text)
    """)
