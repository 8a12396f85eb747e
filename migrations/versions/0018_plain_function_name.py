"""Create `upsert_user_and_load_profile`, which does what `meet_person` did under a plain name.

`meet_person` (migration 0010) stays, because processes of the version before call it while this one
is being deployed; a later migration may drop it.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

# An unknown value never overwrites a known one, and an older identity only fills gaps. `as_of` is
# NULL for a plain visit, which is always newer.
IS_NEWER = "(new_as_of < users.identity_as_of) IS NOT TRUE"


def _merged(column: str) -> str:
    return f"""{column} = CASE WHEN {IS_NEWER} THEN coalesce(new_{column}, users.{column})
        ELSE coalesce(users.{column}, new_{column}) END"""


# An address without a verification status keeps the old status only while it stays the same
# address; a status without an address says that there is no address any longer.
CHANGES = f"""
    {_merged("name")},
    {_merged("image_url")},
    {_merged("login_method")},
    email = CASE WHEN {IS_NEWER} THEN coalesce(new_email, users.email) ELSE users.email END,
    email_verified = CASE
        WHEN NOT ({IS_NEWER}) THEN users.email_verified
        WHEN new_email IS NULL THEN users.email_verified AND coalesce(new_email_verified, true)
        ELSE coalesce(new_email_verified, users.email_verified
            AND normalized_address(users.email) = normalized_address(new_email)) END,
    identity_as_of = CASE WHEN is_complete
        THEN greatest(new_as_of, users.identity_as_of) ELSE users.identity_as_of END,
    identity_completed_at = CASE WHEN is_complete THEN at_time ELSE users.identity_completed_at END,
    updated_at = at_time,
    last_signed_in = CASE WHEN signs_in THEN at_time ELSE users.last_signed_in END
"""

# UPDATE first: INSERT … ON CONFLICT would use up an id of the 32-bit sequence at every login. Both
# lock the row, so that calls for one user wait for each other there. The function is VOLATILE: each
# of its statements sees what was committed before the statement began.
#
# A plan is kept as long as the connection lives, or until the next ANALYZE: a plan that was made
# with few users must serve when there are many. Hence no sequential scans, and no ORDER BY that a
# scan of the primary key could satisfy; the order of two matches does not matter.
UPSERT = f"""
CREATE FUNCTION upsert_user_and_load_profile(
    subject text, new_name text, new_email text, new_email_verified boolean, new_image_url text,
    new_login_method text, is_complete boolean, new_as_of timestamptz,
    signs_in boolean, at_time timestamptz, address_locks integer, switch_key text
) RETURNS TABLE (loaded_user users, profile mentorados, switch jsonb, matches integer[])
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    UPDATE users SET {CHANGES} WHERE users.clerk_id = subject RETURNING users.* INTO loaded_user;
    IF NOT FOUND THEN
        INSERT INTO users (clerk_id, name, email, email_verified, image_url, login_method,
                           identity_as_of, identity_completed_at,
                           created_at, updated_at, last_signed_in)
        VALUES (subject, new_name, new_email, coalesce(new_email_verified, false), new_image_url,
                new_login_method, CASE WHEN is_complete THEN new_as_of END,
                CASE WHEN is_complete THEN at_time END, at_time, at_time, at_time)
        ON CONFLICT (clerk_id) DO UPDATE SET {CHANGES}
        RETURNING users.* INTO loaded_user;
    END IF;
    SELECT owned.* INTO profile FROM mentorados AS owned WHERE owned.user_id = loaded_user.id;
    matches := '{{}}';
    -- Only where an unlinked profile could still be linked: the user has no profile, or one that is
    -- untouched. Other users of this address and pre-registrations with it wait meanwhile.
    IF loaded_user.email_verified
       AND (profile.id IS NULL OR (profile.created_automatically AND profile.edited_at IS NULL))
    THEN
        PERFORM pg_advisory_xact_lock(
            address_locks, hashtext(normalized_address(loaded_user.email)));
        matches := ARRAY(
            SELECT unlinked.id FROM mentorados AS unlinked
             WHERE unlinked.user_id IS NULL
               AND normalized_address(unlinked.email) = normalized_address(loaded_user.email)
             LIMIT 2);
    END IF;
    SELECT stored.value INTO switch FROM app_settings AS stored WHERE stored.key = switch_key;
    RETURN NEXT;
END $$
"""  # noqa: S608 - built from constants of this file only


def upgrade() -> None:
    op.execute(UPSERT)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION upsert_user_and_load_profile(
            text, text, text, boolean, text, text, boolean, timestamptz,
            boolean, timestamptz, integer, text)
    """)
