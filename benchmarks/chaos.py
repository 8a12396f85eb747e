"""Does everything hold while everything happens at once? The real program under chaos for minutes.

Users sign in, admins repair, lists are imported, Clerk sends messages, commands run and parts
break, all at random under a printed seed. Every answer and every committed change goes on record.
The rules (`chaos_rules.py`) judge the record at the end; one violation makes the exit code 1.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from random import Random, SystemRandom
from statistics import quantiles

from sqlalchemy import text

from benchmarks import chaos_history
from benchmarks.chaos_faults import break_something, run_a_command
from benchmarks.chaos_operations import OPERATIONS
from benchmarks.chaos_rules import (
    NOTES,
    RULES,
    TIMED_RULES,
    Answer,
    Interval,
    Memory,
    Record,
    Violation,
    judge,
    noted,
)
from benchmarks.chaos_servers import PAUSE_SECONDS, Asker, Stage, dice, set_up
from dev.databases import connect_to
from dev.servers import PROJECT, logged, wait_for, workers

REPORTS = PROJECT / "instance" / "chaos"
ACTORS, LOOKERS = 6, 2
LOOK_SECONDS = 1.0  # between two looks at the memory
BETWEEN_FAULTS_SECONDS = (2.0, 7.0)
BETWEEN_COMMANDS_SECONDS = (0.5, 2.0)
LAST_SWEEP_SECONDS = 60
CACHE_ERROR = "cache_error"
SHOWN_VIOLATIONS = 5  # of each rule; all of them are in the report's file
MEGABYTE = 1024 * 1024

# What the database must not hold at the end, when everything is well and a sweep has been.
LEFTOVERS = {
    "user without a profile at the end": """
        SELECT clerk_id FROM users AS u
         WHERE role = 'user' AND blocked_at IS NULL AND deleted_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM mentorados AS m WHERE m.user_id = u.id)""",
    "deleted account with a profile at the end": """
        SELECT u.clerk_id || ': mentorado ' || m.id
          FROM users AS u JOIN mentorados AS m ON m.user_id = u.id
         WHERE u.deleted_at IS NOT NULL""",
    "profile that was not recorded exactly once": """
        SELECT m.id || ': ' || count(e.id) || ' events' FROM mentorados AS m
          LEFT JOIN audit_events AS e ON e.mentorado_id = m.id
               AND (e.event = 'mentorado_created' OR e.details ->> 'action' = 'pre_register')
         GROUP BY m.id HAVING count(e.id) <> 1""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Let chaos reign for so many minutes and return the exit code: 0 only without violation."""
    wanted = _parser().parse_args(arguments)
    seed = SystemRandom().randrange(10**9) if wanted.seed is None else wanted.seed
    print(f"seed {seed}, {wanted.minutes:g} minutes", flush=True)
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        stage = set_up(folder, seed, ends)
        memory = _drive(stage, wanted.minutes * 60)
        leftovers = _settle(stage)
        seen = stage.seen
        record = Record(
            answers=seen.answers,
            changes=chaos_history.read(stage.postgres.url),
            commands=seen.commands,
            redis_trouble=[*seen.redis_trouble, *_silences(stage)],
            database_trouble=seen.database_trouble,
            killed_workers=seen.killed_workers,
            memory=memory,
            leftovers=leftovers,
        )
        violations = judge(record, is_timed=not wanted.busy)
        _keep(wanted.report, seed, record, violations, stage)
    _print_tables(record, stage, violations)
    print("chaos: FAILED" if violations else "chaos: every rule held")
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="for how long")
    add("--seed", type=int, help="of all that is decided at random; by default another each time")
    add("--busy", action="store_true", help="judge no times: the machine does other work as well")
    add("--report", type=Path, default=REPORTS, help="the folder for the whole record")
    return parser


def _drive(stage: Stage, seconds: float) -> list[Memory]:
    """Let everything happen for so long; returns what was seen of the memory."""
    until = time.time() + seconds
    jobs = [
        *(lambda n=n: _act(stage, f"actor {n}", until) for n in range(ACTORS)),
        *(lambda n=n: _look(stage, f"looker {n}", until) for n in range(LOOKERS)),
        lambda: _at_intervals(stage, "faults", until, break_something, BETWEEN_FAULTS_SECONDS),
        lambda: _at_intervals(stage, "commands", until, run_a_command, BETWEEN_COMMANDS_SECONDS),
    ]
    memory: list[Memory] = []
    with ThreadPoolExecutor(len(jobs)) as pool:
        running: list[Future[None]] = [pool.submit(job) for job in jobs]
        while not all(job.done() for job in running):
            memory += _look_at_memory(stage)
            time.sleep(LOOK_SECONDS)
        for job in running:
            job.result()
    return memory


def _act(stage: Stage, name: str, until: float) -> None:
    """Do one operation after the other."""
    chance = dice(stage.seed, name)
    weights = [operation.weight for operation in OPERATIONS]
    while time.time() < until:
        [operation] = chance.choices(OPERATIONS, weights)
        operation.run(Asker(stage, chance, operation.name))


def _look(stage: Stage, name: str, until: float) -> None:
    """Do what was planned, when it is due."""
    chance = dice(stage.seed, name)
    while time.time() < until:
        due = stage.plan.take_due(time.time())
        if due is None:
            time.sleep(PAUSE_SECONDS)
            continue
        operation, call = due
        call(Asker(stage, chance, f"{operation}, later"))


def _at_intervals(
    stage: Stage,
    name: str,
    until: float,
    call: Callable[[Stage, Random], None],
    pauses: tuple[float, float],
) -> None:
    """Do this again and again, with a pause before each time."""
    chance = dice(stage.seed, name)
    while True:
        time.sleep(chance.uniform(*pauses))
        if time.time() >= until:
            return
        call(stage, chance)


def _look_at_memory(stage: Stage) -> Iterator[Memory]:
    """The memory of the second host's process, which is never killed."""
    for process in workers(stage.hosts["second"]):
        megabytes = process.memory_info().rss / MEGABYTE
        yield Memory(f"second host, process {process.pid}", time.time(), megabytes)


def _settle(stage: Stage) -> dict[str, list[str]]:
    """Wait until all is well, sweep, and look for what must not be left over."""
    for host in stage.hosts.values():
        wait_for(f"{host.url}/readyz")
    deadline = time.time() + LAST_SWEEP_SECONDS
    while stage.run("sweep", "--json").exit_code != 0:
        if time.time() > deadline:
            return {"no sweep succeeded after the end": [stage.seen.commands[-1].output]}
    with connect_to(stage.postgres.url) as connection:
        return {
            name: [str(row) for row in connection.scalars(text(query))]
            for name, query in LEFTOVERS.items()
        }


def _silences(stage: Stage) -> Iterator[Interval]:
    """When a process had no answer from Redis in time, as the logs say: a busy machine is slow."""
    for name, host in stage.hosts.items():
        for line in logged(host, CACHE_ERROR):
            moment = datetime.fromisoformat(str(line["timestamp"])).timestamp()
            yield Interval(f"not heard by {name}", moment - LOOK_SECONDS, moment)


def _keep(
    folder: Path, seed: int, record: Record, violations: Sequence[Violation], stage: Stage
) -> None:
    """Write the whole record into a file, and each process's log beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "seed": seed,
        "violations": [asdict(violation) for violation in violations],
        "faults": stage.seen.faults,
        "record": asdict(record),
    }
    (folder / "record.json").write_text(json.dumps(content, default=str))
    for name, host in stage.hosts.items():
        (folder / f"{name}.log").write_bytes(host.log.read_bytes())
    print(f"record: {folder / 'record.json'}")


def _print_tables(record: Record, stage: Stage, violations: Sequence[Violation]) -> None:
    print(f"\n{'operation':<45} {'asked':>6} {'done':>6} {'p50':>6} {'max':>6}  refused")
    by_operation: dict[str, list[Answer]] = defaultdict(list)
    for answer in record.answers:
        by_operation[answer.operation].append(answer)
    for name, answers in sorted(by_operation.items()):
        print(_line(name, answers))
    print(_line("all", record.answers))
    print("\nfaults: " + _counted(stage.seen.faults))
    print("commands: " + _counted(f"{c.name} → {c.exit_code}" for c in record.commands))
    print("\nviolations")
    _print_found([*RULES, *TIMED_RULES, *record.leftovers], violations)
    print("\nnoted, and no violation")
    _print_found(NOTES, noted(record))


def _print_found(rules: Iterable[str], found: Sequence[Violation]) -> None:
    """How often each rule was broken, and by what."""
    counted = Counter(violation.rule for violation in found)
    for rule in rules:
        print(f"{counted[rule]:>7}  {rule}")
        told = [violation.detail for violation in found if violation.rule == rule]
        for detail in told[:SHOWN_VIOLATIONS]:
            print(f"         {detail}")


def _line(name: str, answers: Sequence[Answer]) -> str:
    times = sorted(answer.seconds * 1000 for answer in answers)
    middle = quantiles(times, n=2)[0] if len(times) > 1 else times[0]
    refused = (str(a.code or a.status) for a in answers if not a.is_good)
    done = sum(answer.is_good for answer in answers)
    figures = f"{len(answers):>6} {done:>6} {middle:>6.0f} {times[-1]:>6.0f}"
    return f"{name:<45} {figures}  {_counted(refused)}"


def _counted(names: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(Counter(names).items()))


if __name__ == "__main__":
    sys.exit(main())
