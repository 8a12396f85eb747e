"""Measure the pages of the admin console with many people: 200 ms and 10 statements at most.

`python -m benchmarks.console_pages [--people 100000]` fills a PostgreSQL of its own and opens each
page in this process. It prints the best time of several runs and the number of statements; the exit
code is 1 if one exceeds a bound.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text

from benchmarks.databases import connect_to
from core import deadlines
from core.database import db
from core.logging import configure_logs
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from scripts.trace_request import serving
from web.services import EXTENSION

BOUND_MS, MAX_STATEMENTS = 200.0, 10
TIME_LIMIT_SCALE = 10.0  # on a busy machine a slow page is to be measured, not refused
RUNS = 5
ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
TRANSACTION_STATEMENTS = ("SELECT set_config", "BEGIN", "COMMIT")
# Instead of `full_name(i)` in the statements below.
NAME = """
    (ARRAY['Ana','Bruna','Camila','Débora','Élida','Fátima','Helena','João','Luíza','Zoé'])
        [1 + i % 10] || ' ' ||
    (ARRAY['Silva','São João','D''Ávila','Rocha','Souza','Araújo','Melo','Prado','Lima'])
        [1 + i / 10 % 9] || ' ' || substr(md5(i::text), 1, 5)
"""
FILL = (
    """INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at,
                           last_signed_in)
        SELECT 'user_old_' || i, full_name(i), 'old' || i || '@example.com', true, now(),
               now() - i % 90 * interval '1 day' FROM generate_series(1, :people) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically,
                               edited_at)
       SELECT id, name, email, 'neon', true, CASE WHEN id % 2 = 0 THEN now() END FROM users
        WHERE clerk_id LIKE 'user_old_%'""",
    """INSERT INTO mentorados (nome_completo, email, turma)
        SELECT full_name(i), 'wait' || i || '@example.com', 'neon'
          FROM generate_series(1, :people / 10) AS i""",
    """INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento, leads, procedimentos,
                                     posts_feed, stories)
       SELECT id, 2026, mes, id * 7919 % 30000, id % 80, id % 20, id % 25, id % 100
         FROM mentorados, generate_series(1, 2) AS mes WHERE id % 10 <> mes""",
    """INSERT INTO feedbacks (mentorado_id, ano, mes, analise_mes, foco_proximo_mes,
                              sugestao_mentor)
       SELECT id, 2026, mes, 'a', 'b', 'c' FROM mentorados, generate_series(1, 2) AS mes
        WHERE id % 3 <> mes""",
    """INSERT INTO audit_events (event, entry, user_id, mentorado_id)
       SELECT 'mentorado_created', 'sweep', user_id, id FROM mentorados""",
)
MONTH = "/admin/meses/2026/2"
PATHS = (
    MONTH,
    *(f"{MONTH}?filter={name}" for name in ("sem_metricas", "sem_feedback", "sem_acesso")),
    f"{MONTH}?filter=abaixo_de_30",
    *(f"{MONTH}?sort={name}" for name in ("pontos", "acesso")),
    f"{MONTH}/emails?filter=sem_feedback",
    *(f"/admin/busca?q={text}" for text in ("sao+joao", "silva", "example", "old77@example.com")),
    "/admin/mentorados/17/feedback/2026/2",
    "/admin/mesma-pessoa?um=conta-17",
    "/admin/registro",
    "/admin/registro?q=camila",
    "/admin/sistema",
    "/admin/pessoas?state=missing",
    "/admin/mentorados?tipo=repetidos",
)


def main() -> int:
    """Fill the database, measure every page and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    people = parser.parse_args().people
    configure_logs("json", is_production=True)
    deadlines.set_scale(TIME_LIMIT_SCALE)
    with tempfile.TemporaryDirectory(prefix="console") as folder, serving(Path(folder)) as app:
        _fill(app, people)
        client = app.test_client()
        client.set_cookie("__session", app.extensions[EXTENSION].dev_provider.token(ADMIN))
        measured = [(path, *_measure(app, client, path)) for path in PATHS]
    for path, milliseconds, statements, status in measured:
        print(f"{milliseconds:6.1f} ms  {statements:2} statements  {status}  {path}")
    return int(
        any(
            milliseconds > BOUND_MS or statements > MAX_STATEMENTS or status != 200
            for _, milliseconds, statements, status in measured
        )
    )


def _fill(app: Flask, people: int) -> None:
    with app.app_context():
        url = db.engine.url.render_as_string(hide_password=False)
    with connect_to(url) as connection:
        for statement in FILL:
            connection.execute(text(statement.replace("full_name(i)", NAME)), {"people": people})
        connection.execute(text("VACUUM ANALYZE"))


def _measure(app: Flask, client: FlaskClient, path: str) -> tuple[float, int, int]:
    """Return the least time in milliseconds, the statements of one run, and the status."""
    statements: list[str] = []

    def record(*args: object) -> None:
        if not str(args[2]).startswith(TRANSACTION_STATEMENTS):
            statements.append(str(args[2]))

    least, status = float("inf"), 0
    client.get(path, follow_redirects=True)  # warm
    with app.app_context():
        engine = db.engine
    for run in range(RUNS):
        if run == 0:
            event.listen(engine, "before_cursor_execute", record)
        before = time.perf_counter()
        status = client.get(path, follow_redirects=True).status_code
        least = min(least, time.perf_counter() - before)
        if run == 0:
            event.remove(engine, "before_cursor_execute", record)
    return least * 1000, len(statements), status


if __name__ == "__main__":
    sys.exit(main())
