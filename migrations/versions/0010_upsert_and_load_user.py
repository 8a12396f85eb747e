"""Create `meet_person`, which upserts and locks a user and loads the profile in one call.

Sent as one message, the same statements take the server longer to plan than to execute. A function
keeps its plans per connection, also where a transaction-mode pooler forbids prepared statements.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# Unknown values never overwrite known ones, and older identities only fill gaps. `as_of` is NULL
# for an identity without time, which always counts as newest.
IS_NEWS = "(told_as_of < users.identity_as_of) IS NOT TRUE"


def _merged(column: str) -> str:
    return f"""{column} = CASE WHEN {IS_NEWS} THEN coalesce(told_{column}, users.{column})
        ELSE coalesce(users.{column}, told_{column}) END"""


# An address without verification keeps the stored one only if it is the same address. A
# verification without address means that the user has no address any longer.
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
# login. Both lock the row, so that calls for one user wait for each other. Because the function is
# VOLATILE, each of its statements sees what was committed before it began.
#
# A plan is kept until the connection closes or the next ANALYZE: one that was made with few users
# must be good with many. Hence no sequential scans, and no ORDER BY that a scan of the primary key
# could satisfy; the order of two matches does not matter.
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
