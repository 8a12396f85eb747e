"""Create `upsert_user_and_create_profile`, which saves a round trip at the first login.

`upsert_user_and_load_profile` (migration 0018) stays: the new function calls it, and so do
processes of the version before while this one is being deployed.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

# A row whose `created_at` is the time of this call was inserted by it, or by a call of the same
# microsecond, which is why role and denials are looked at all the same. The profile has the values
# of `insert_profiles` (provisioning/profiles.py).
FUNCTION = """
CREATE FUNCTION upsert_user_and_create_profile(
    subject text, new_name text, new_email text, new_email_verified boolean, new_image_url text,
    new_login_method text, is_complete boolean, new_as_of timestamptz,
    signs_in boolean, at_time timestamptz, address_locks integer, switch_key text,
    may_create boolean, default_name text, of_entry text, of_actor integer, of_request text,
    with_details jsonb
) RETURNS TABLE (
    loaded_user users, profile mentorados, switch jsonb, matches integer[], is_created boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    loaded record;
BEGIN
    SELECT * INTO loaded FROM upsert_user_and_load_profile(
        subject, new_name, new_email, new_email_verified, new_image_url, new_login_method,
        is_complete, new_as_of, signs_in, at_time, address_locks, switch_key);
    loaded_user := loaded.loaded_user;
    profile := loaded.profile;
    switch := loaded.switch;
    matches := loaded.matches;
    is_created := false;
    IF may_create AND loaded_user.created_at = at_time AND loaded_user.role = 'user'
       AND loaded_user.deleted_at IS NULL AND loaded_user.blocked_at IS NULL
       AND profile.id IS NULL AND matches = '{}' AND switch IS DISTINCT FROM 'false'
    THEN
        INSERT INTO mentorados AS created (
            user_id, nome_completo, email, foto_url, turma, created_automatically)
        VALUES (
            loaded_user.id, left(coalesce(nullif(loaded_user.name, ''), default_name), 255),
            loaded_user.email,
            CASE WHEN length(loaded_user.image_url) <= 500 THEN loaded_user.image_url END,
            'neon', true)
        ON CONFLICT (user_id) DO NOTHING RETURNING created.* INTO profile;
        is_created := FOUND;
    END IF;
    IF is_created THEN
        INSERT INTO audit_events (
            event, entry, actor_id, request_id, details, user_id, mentorado_id)
        VALUES (
            'mentorado_created', of_entry, of_actor, of_request, with_details, loaded_user.id,
            profile.id);
    END IF;
    RETURN NEXT;
END $$
"""


def upgrade() -> None:
    op.execute(FUNCTION)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION upsert_user_and_create_profile(
            text, text, text, boolean, text, text, boolean, timestamptz, boolean, timestamptz,
            integer, text, boolean, text, text, integer, text, jsonb)
    """)
