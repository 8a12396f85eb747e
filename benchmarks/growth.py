"""Does a request cost more with a million people in the database than with a thousand?"""

import statistics
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from benchmarks.bench_app import ENSURE, ME, Ground, ground
from benchmarks.raw_client import Run
from benchmarks.report_table import Figure, at_most
from dev import postgres
from dev.databases import connect_to

FEW, MANY = 1_000, 1_000_000
LOGINS, READS = 300, 1_000
LINES = 4
FILL = (
    """INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at)
       SELECT 'user_old_' || i, 'Pessoa ' || i, 'old' || i || '@example.com', true, now()
         FROM generate_series(1, :people) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)
       SELECT id, name, email, 'neon', true FROM users WHERE clerk_id LIKE 'user_old_%'""",
    """INSERT INTO audit_events (event, entry, user_id, mentorado_id)
       SELECT 'mentorado_created', 'sweep', user_id, id FROM mentorados""",
    # A tenth of the profiles wait for somebody.
    """INSERT INTO mentorados (nome_completo, email, turma)
       SELECT 'Espera ' || i, 'wait' || i || '@example.com', 'neon'
         FROM generate_series(1, :people / 10) AS i""",
)


def measure_growth(folder: Path, repetitions: int) -> list[Figure]:
    """First logins and warm reads in a large installation beside the same in a small one."""
    folder.mkdir()
    with ExitStack() as stack:
        small = stack.enter_context(ground(folder / "small"))
        large = stack.enter_context(ground(folder / "large"))
        for found, people in ((small, FEW), (large, MANY)):
            _fill(found, people)
            found.ask("POST", ENSURE, found.newcomers(50), LINES)  # warm
        logins = [(_log_in(small), _log_in(large)) for _ in range(repetitions)]
        reads = [(_read(small), _read(large)) for _ in range(repetitions)]
    return [_figure("first login", logins), _figure(f"warm `GET {ME}`", reads)]


def _fill(found: Ground, people: int) -> None:
    url = postgres.start(found.app.instance)
    with connect_to(url) as connection:
        for statement in FILL:
            connection.execute(text(statement), {"people": people})
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    postgres.leave(found.app.instance)


def _log_in(found: Ground) -> Run:
    return found.ask("POST", ENSURE, found.newcomers(LOGINS), LINES)


def _read(found: Ground) -> Run:
    [token] = found.newcomers(1)
    found.ask("POST", ENSURE, [token], 1)
    return found.ask("GET", ME, [token] * READS, LINES)


def _figure(work: str, found: list[tuple[Run, Run]]) -> Figure:
    """Beside each other what was asked of the small and of the large installation."""
    pairs = [(small.percentile(0.5), large.percentile(0.5)) for small, large in found]
    few, many = (statistics.median(seconds) * 1000 for seconds in zip(*pairs, strict=True))
    ratios = [large / small for small, large in pairs]
    wrong = sum(a.status >= 300 for pair in found for run in pair for a in run.answers)
    ours, theirs = f"{many:.1f} ms with {MANY:,} people", f"{few:.1f} ms with {FEW:,}"
    return at_most(1.2, Figure(f"{work}, median", ours, theirs, ratios, wrong=wrong))
