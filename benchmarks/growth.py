"""Compare requests with a million users in the database and with a thousand."""

import statistics
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from benchmarks.bench_app import ENSURE, ME, BenchApp, bench_app
from benchmarks.databases import connect_to
from benchmarks.raw_client import Run
from benchmarks.report_table import Figure, at_most
from dev import postgres

FEW, MANY = 1_000, 1_000_000
LOGINS, READS = 300, 1_000
CONNECTIONS = 4
FILL = (
    """INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at)
       SELECT 'user_old_' || i, 'Pessoa ' || i, 'old' || i || '@example.com', true, now()
         FROM generate_series(1, :users) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)
       SELECT id, name, email, 'neon', true FROM users WHERE clerk_id LIKE 'user_old_%'""",
    """INSERT INTO audit_events (event, entry, user_id, mentorado_id)
       SELECT 'mentorado_created', 'sweep', user_id, id FROM mentorados""",
    # A tenth as many profiles are pre-registered.
    """INSERT INTO mentorados (nome_completo, email, turma)
       SELECT 'Espera ' || i, 'wait' || i || '@example.com', 'neon'
         FROM generate_series(1, :users / 10) AS i""",
)


def measure_growth(folder: Path, repetitions: int) -> list[Figure]:
    """Measure first logins and warm reads in a large and in a small installation."""
    folder.mkdir()
    with ExitStack() as stack:
        small = stack.enter_context(bench_app(folder / "small"))
        large = stack.enter_context(bench_app(folder / "large"))
        for app, users in ((small, FEW), (large, MANY)):
            _fill(app, users)
            app.send("POST", ENSURE, app.new_tokens(50), CONNECTIONS)  # warm
        logins = [(_log_in(small), _log_in(large)) for _ in range(repetitions)]
        reads = [(_read(small), _read(large)) for _ in range(repetitions)]
    return [_figure("first login", logins), _figure(f"warm `GET {ME}`", reads)]


def _fill(app: BenchApp, users: int) -> None:
    url = postgres.start(app.app.instance)
    with connect_to(url) as connection:
        for statement in FILL:
            connection.execute(text(statement), {"users": users})
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    postgres.release(app.app.instance)


def _log_in(app: BenchApp) -> Run:
    return app.send("POST", ENSURE, app.new_tokens(LOGINS), CONNECTIONS)


def _read(app: BenchApp) -> Run:
    [token] = app.new_tokens(1)
    app.send("POST", ENSURE, [token], 1)
    return app.send("GET", ME, [token] * READS, CONNECTIONS)


def _figure(work: str, runs: list[tuple[Run, Run]]) -> Figure:
    """Compare the medians of pairs of runs, each of the small and the large installation."""
    medians = [(small.percentile(0.5), large.percentile(0.5)) for small, large in runs]
    few, many = (statistics.median(seconds) * 1000 for seconds in zip(*medians, strict=True))
    ratios = [large / small for small, large in medians]
    wrong = sum(a.status >= 300 for pair in runs for run in pair for a in run.answers)
    measured, baseline = f"{many:.1f} ms with {MANY:,} users", f"{few:.1f} ms with {FEW:,}"
    return at_most(1.2, Figure(f"{work}, median", measured, baseline, ratios, wrong=wrong))
