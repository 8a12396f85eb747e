"""The history of a database during a chaos run: every committed change of the watched tables.

A trigger records each row together with its owner as its own transaction sees it. A rule can
therefore be checked at the moment of the change. PostgreSQL records when a transaction was
committed (`track_commit_timestamp`), even if its answer was lost.
"""

from sqlalchemy import text

from benchmarks.chaos_rules import Change
from benchmarks.databases import connect_to
from benchmarks.servers import PostgresServer

TRACK_COMMITS = "ALTER SYSTEM SET track_commit_timestamp = on"

USER = """
jsonb_build_object('id', {row}.id, 'clerk_id', {row}.clerk_id, 'is_admin', {row}.role = 'admin',
                   'blocked', {row}.blocked_at IS NOT NULL, 'deleted', {row}.deleted_at IS NOT NULL)
"""
PROFILE = """
jsonb_build_object('id', {row}.id, 'user_id', {row}.user_id, 'active', {row}.ativo = 'sim',
                   'address', normalized_address({row}.email))
"""
EVENT = """
jsonb_build_object('event', {row}.event, 'entry', {row}.entry, 'user_id', {row}.user_id,
                   'action', {row}.details ->> 'action', 'mentorado_id', {row}.mentorado_id,
                   'request_id', {row}.request_id)
"""
MONTH = """
jsonb_build_object('id', {row}.id, 'mentorado_id', {row}.mentorado_id, 'note', {row}.observacoes)
"""
OWNER_OF_PROFILE = """
SELECT jsonb_build_object(
           'clerk_id', u.clerk_id, 'address', normalized_address(u.email),
           'verified', u.email_verified, 'blocked', u.blocked_at IS NOT NULL,
           'deleted', u.deleted_at IS NOT NULL)
  FROM users AS u WHERE u.id = NEW.user_id
"""
OWNER_OF_EVENT = """
SELECT jsonb_build_object('user_id', m.user_id) FROM mentorados AS m WHERE m.id = NEW.mentorado_id
"""
OWNER_OF_MONTH = """
SELECT jsonb_build_object('clerk_id', u.clerk_id)
  FROM mentorados AS m JOIN users AS u ON u.id = m.user_id WHERE m.id = NEW.mentorado_id
"""
# Table, the recorded values of a row, its owner, and the events that fire the trigger.
WATCHED = (
    ("users", USER, "SELECT NULL::jsonb", "AFTER INSERT OR UPDATE"),
    ("mentorados", PROFILE, OWNER_OF_PROFILE, "AFTER INSERT OR UPDATE OR DELETE"),
    ("audit_events", EVENT, OWNER_OF_EVENT, "AFTER INSERT"),
    ("metricas_mensais", MONTH, OWNER_OF_MONTH, "AFTER INSERT OR UPDATE OF observacoes"),
)
HISTORY = """
CREATE TABLE chaos_history (
    seq bigserial PRIMARY KEY, transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    table_name text NOT NULL, old jsonb, new jsonb, owner jsonb)
"""
FUNCTION = """
CREATE FUNCTION chaos_record_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE old_values jsonb; new_values jsonb; owner_values jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_values := {old}; END IF;
    IF TG_OP <> 'DELETE' THEN new_values := {new}; owner_values := ({owner}); END IF;
    IF old_values IS DISTINCT FROM new_values THEN
        INSERT INTO chaos_history (table_name, old, new, owner)
        VALUES ('{table}', old_values, new_values, owner_values);
    END IF;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER chaos_record {when} ON {table}
   FOR EACH ROW EXECUTE FUNCTION chaos_record_{table}()
"""
READ_HISTORY = text("""
SELECT seq, transaction::text::bigint, table_name, coalesce(old, '{}'), coalesce(new, '{}'),
       coalesce(owner, '{}'),
       extract(epoch FROM pg_xact_commit_timestamp(transaction::xid))::double precision
  FROM chaos_history ORDER BY seq
""")


def track_commits(postgres: PostgresServer) -> None:
    """Make the server record commit times; restarts it."""
    with connect_to(postgres.url) as connection:
        connection.exec_driver_sql(TRACK_COMMITS)
    postgres.crash()
    postgres.start()


def install(url: str) -> None:
    """Record every change from now on; the tables must exist."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(HISTORY)
        for table, row, owner, when in WATCHED:
            old, new = row.format(row="OLD"), row.format(row="NEW")
            connection.exec_driver_sql(FUNCTION.format(table=table, old=old, new=new, owner=owner))
            connection.exec_driver_sql(TRIGGER.format(table=table, when=when))


def read(url: str) -> list[Change]:
    """Read all changes committed so far."""
    with connect_to(url) as connection:
        return [
            Change(seq, transaction, committed, table, old, new, owner)
            for seq, transaction, table, old, new, owner, committed in connection.execute(
                READ_HISTORY
            )
        ]
