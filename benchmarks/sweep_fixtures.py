"""Fill the tables for sweep benchmarks, and check them after the sweep."""

from sqlalchemy import text

from benchmarks.databases import connect_to, count

TABLES = "users, mentorados, audit_events, sweep_runs, sweep_totals"
INSERT_USERS = text("""
    INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at)
    SELECT 'absent_' || i, 'Pessoa ' || i, i || '@example.com', true, now()
      FROM generate_series(1, :users) AS i
""")
INSERT_PRE_REGISTERED = text("""
    INSERT INTO mentorados (nome_completo, email, turma)
    SELECT name, upper(email), 'neon' FROM users ORDER BY id
""")
CONTENT = """
    SELECT sum(hashtext((user_id, nome_completo, email, foto_url, turma, meta_faturamento, ativo,
                         onboarding_completed, created_automatically, edited_at)::text)::bigint)
      FROM mentorados
"""
WITHOUT_ONE_PROFILE = """
    SELECT count(*) FROM (
        SELECT users.id FROM users LEFT JOIN mentorados ON mentorados.user_id = users.id
        GROUP BY users.id HAVING count(mentorados.id) <> 1) AS wrong
"""
WITHOUT_ONE_EVENT = """
    SELECT count(*) FROM (
        SELECT m.id FROM mentorados m LEFT JOIN audit_events e
            ON e.mentorado_id = m.id AND e.user_id = m.user_id AND e.event = '{event}'
        GROUP BY m.id HAVING count(e.id) <> 1) AS wrong
"""
WRONGLY_LINKED = """
    SELECT count(*) FROM mentorados m LEFT JOIN users u ON u.id = m.user_id
     WHERE lower(m.email) IS DISTINCT FROM u.email
"""


def fill(url: str, users: int, *, is_pre_registered: bool = False) -> None:
    """Empty the tables and insert users without profiles; then vacuum and checkpoint.

    With `is_pre_registered` each user's address has a pre-registered profile.
    """
    with connect_to(url) as connection:
        connection.exec_driver_sql(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
        connection.execute(INSERT_USERS, {"users": users})
        if is_pre_registered:
            connection.execute(INSERT_PRE_REGISTERED)
        connection.exec_driver_sql(f"VACUUM ANALYZE {TABLES}")
        connection.exec_driver_sql("CHECKPOINT")


def content_hash(url: str) -> int:
    """Return a hash of all profiles, without their ids and times."""
    return count(url, CONTENT)


def count_violations(url: str, event: str) -> dict[str, int]:
    """Count the violations after all users got a profile by the audit event `event`."""
    return {
        "users without exactly one profile": count(url, WITHOUT_ONE_PROFILE),
        f"profiles without one {event}": count(url, WITHOUT_ONE_EVENT.format(event=event)),
        "profiles of another user": count(url, WRONGLY_LINKED),
    }
