"""Run the real program under random load and faults for minutes, and check it by rules.

Users sign in, admins change profiles, lists are imported, Clerk sends webhooks, commands run and
parts fail, all at random under a printed seed. Every answer and every committed change is recorded.
The rules (`chaos_rules.py`) check the record at the end. One violation makes the exit code 1.
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
from benchmarks.chaos_faults import cause_fault, run_random_command
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
    notes,
)
from benchmarks.chaos_servers import PAUSE_SECONDS, Client, Environment, seeded_random, set_up
from benchmarks.databases import connect_to
from benchmarks.servers import PROJECT, logged_events, wait_for, workers

REPORTS = PROJECT / "instance" / "chaos"
ACTORS, READERS = 6, 2
SAMPLE_SECONDS = 1.0  # between two samples of the memory
BETWEEN_FAULTS_SECONDS = (2.0, 7.0)
BETWEEN_COMMANDS_SECONDS = (0.5, 2.0)
LAST_SWEEP_SECONDS = 60
CACHE_ERROR = "cache_error"
SHOWN_VIOLATIONS = 5  # of each rule; the report's file has all of them
MEGABYTE = 1024 * 1024

# Rows that the database must not hold at the end, after all parts recovered and a sweep ran.
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
    """Run load and faults and return the exit code: 0 only without violations."""
    options = _parser().parse_args(arguments)
    seed = SystemRandom().randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}, {options.minutes:g} minutes", flush=True)
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        env = set_up(folder, seed, ends)
        memory = _drive(env, options.minutes * 60)
        leftovers = _settle(env)
        observed = env.observations
        record = Record(
            answers=observed.answers,
            changes=chaos_history.read(env.postgres.url),
            commands=observed.commands,
            redis_trouble=[*observed.redis_trouble, *_cache_errors(env)],
            database_trouble=observed.database_trouble,
            killed_workers=observed.killed_workers,
            memory=memory,
            leftovers=leftovers,
        )
        violations = judge(record, is_timed=not options.busy)
        _write_record(options.report, seed, record, violations, env)
    _print_tables(record, env, violations)
    print("chaos: FAILED" if violations else "chaos: every rule held")
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="duration")
    add("--seed", type=int, help="of all random decisions; by default a new one each time")
    add("--busy", action="store_true", help="skip the rules on times, on a busy machine")
    add("--report", type=Path, default=REPORTS, help="the folder for the record")
    return parser


def _drive(env: Environment, seconds: float) -> list[Memory]:
    """Run all jobs for so many seconds; returns samples of the memory."""
    until = time.time() + seconds
    jobs = [
        *(lambda n=n: _act(env, f"actor {n}", until) for n in range(ACTORS)),
        *(lambda n=n: _run_scheduled(env, f"reader {n}", until) for n in range(READERS)),
        lambda: _at_intervals(env, "faults", until, cause_fault, BETWEEN_FAULTS_SECONDS),
        lambda: _at_intervals(env, "commands", until, run_random_command, BETWEEN_COMMANDS_SECONDS),
    ]
    memory: list[Memory] = []
    with ThreadPoolExecutor(len(jobs)) as pool:
        running: list[Future[None]] = [pool.submit(job) for job in jobs]
        while not all(job.done() for job in running):
            memory += _sample_memory(env)
            time.sleep(SAMPLE_SECONDS)
        for job in running:
            job.result()
    return memory


def _act(env: Environment, name: str, until: float) -> None:
    """Run one random operation after the other."""
    rng = seeded_random(env.seed, name)
    weights = [operation.weight for operation in OPERATIONS]
    while time.time() < until:
        [operation] = rng.choices(OPERATIONS, weights)
        operation.run(Client(env, rng, operation.name))


def _run_scheduled(env: Environment, name: str, until: float) -> None:
    """Run scheduled calls when they are due."""
    rng = seeded_random(env.seed, name)
    while time.time() < until:
        due = env.schedule.take_due(time.time())
        if due is None:
            time.sleep(PAUSE_SECONDS)
            continue
        operation, call = due
        call(Client(env, rng, f"{operation}, later"))


def _at_intervals(
    env: Environment,
    name: str,
    until: float,
    call: Callable[[Environment, Random], None],
    pauses: tuple[float, float],
) -> None:
    """Run a call repeatedly, with a random pause before each time."""
    rng = seeded_random(env.seed, name)
    while True:
        time.sleep(rng.uniform(*pauses))
        if time.time() >= until:
            return
        call(env, rng)


def _sample_memory(env: Environment) -> Iterator[Memory]:
    """Yield the memory of the second host's process, which is never killed."""
    for process in workers(env.hosts["second"]):
        megabytes = process.memory_info().rss / MEGABYTE
        yield Memory(f"second host, process {process.pid}", time.time(), megabytes)


def _settle(env: Environment) -> dict[str, list[str]]:
    """Wait until all hosts are ready, sweep, and read the rows that must not be left over."""
    for host in env.hosts.values():
        wait_for(f"{host.url}/readyz")
    deadline = time.time() + LAST_SWEEP_SECONDS
    while env.run("sweep", "--json").exit_code != 0:
        if time.time() > deadline:
            return {"no sweep succeeded after the end": [env.observations.commands[-1].output]}
    with connect_to(env.postgres.url) as connection:
        return {
            name: [str(row) for row in connection.scalars(text(query))]
            for name, query in LEFTOVERS.items()
        }


def _cache_errors(env: Environment) -> Iterator[Interval]:
    """Yield the intervals of the hosts' cache errors; Redis may be slow on a busy machine."""
    for name, host in env.hosts.items():
        for line in logged_events(host, CACHE_ERROR):
            moment = datetime.fromisoformat(str(line["timestamp"])).timestamp()
            yield Interval(f"no answer to {name}", moment - SAMPLE_SECONDS, moment)


def _write_record(
    folder: Path,
    seed: int,
    record: Record,
    violations: Sequence[Violation],
    env: Environment,
) -> None:
    """Write the record and each host's log into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "seed": seed,
        "violations": [asdict(violation) for violation in violations],
        "faults": env.observations.faults,
        "record": asdict(record),
    }
    (folder / "record.json").write_text(json.dumps(content, default=str))
    for name, host in env.hosts.items():
        (folder / f"{name}.log").write_bytes(host.log.read_bytes())
    print(f"record: {folder / 'record.json'}")


def _print_tables(record: Record, env: Environment, violations: Sequence[Violation]) -> None:
    print(f"\n{'operation':<45} {'sent':>6} {'done':>6} {'p50':>6} {'max':>6}  refused")
    by_operation: dict[str, list[Answer]] = defaultdict(list)
    for answer in record.answers:
        by_operation[answer.operation].append(answer)
    for name, answers in sorted(by_operation.items()):
        print(_line(name, answers))
    print(_line("all", record.answers))
    print("\nfaults: " + _counted(env.observations.faults))
    print("commands: " + _counted(f"{c.name} → {c.exit_code}" for c in record.commands))
    print("\nviolations")
    _print_found([*RULES, *TIMED_RULES, *record.leftovers], violations)
    print("\nnotes, not violations")
    _print_found(NOTES, notes(record))


def _print_found(rules: Iterable[str], found: Sequence[Violation]) -> None:
    """Print the number of violations of each rule, and the first of them."""
    counted = Counter(violation.rule for violation in found)
    for rule in rules:
        print(f"{counted[rule]:>7}  {rule}")
        details = [violation.detail for violation in found if violation.rule == rule]
        for detail in details[:SHOWN_VIOLATIONS]:
            print(f"         {detail}")


def _line(name: str, answers: Sequence[Answer]) -> str:
    times = sorted(answer.seconds * 1000 for answer in answers)
    median = quantiles(times, n=2)[0] if len(times) > 1 else times[0]
    refused = (str(a.code or a.status) for a in answers if not a.is_good)
    done = sum(answer.is_good for answer in answers)
    figures = f"{len(answers):>6} {done:>6} {median:>6.0f} {times[-1]:>6.0f}"
    return f"{name:<45} {figures}  {_counted(refused)}"


def _counted(names: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(Counter(names).items()))


if __name__ == "__main__":
    sys.exit(main())
