"""The faults of a chaos run, one at a time; each is over when its function returns."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

import psutil
from sqlalchemy.exc import DBAPIError

from benchmarks.chaos_operations import add_backlog, schedule_reads
from benchmarks.chaos_rules import ADMINISTRATION, Interval
from benchmarks.chaos_servers import ASSISTANTS, KILL_SECONDS, Environment
from benchmarks.databases import count
from benchmarks.servers import eventually, workers
from dev.fake_clerk import DevUser

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""
SWEEPS_OF_COMMANDS = "SELECT count(*) FROM sweep_runs WHERE trigger = 'cli' AND status = 'running'"
LONGEST_OUTAGE_SECONDS = 3.0
LONGEST_SWEEP_SECONDS = 0.2  # of a sweep that is killed


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and its relative frequency."""

    name: str
    weight: int
    run: Callable[[Environment, Random], object]


def kill_worker(env: Environment, rng: Random) -> None:
    """Kill a worker of the first host during its work; gunicorn starts another."""
    _end_worker(env, rng, psutil.Process.kill)


def stop_worker(env: Environment, rng: Random) -> None:
    """Terminate a worker of the first host; gunicorn starts another."""
    _end_worker(env, rng, psutil.Process.terminate)


def kill_scheduler(env: Environment, _: Random) -> None:
    """Kill the second host's scheduler, perhaps during a sweep, and start it again."""
    env.scheduler.kill()
    env.scheduler.wait()
    env.start_scheduler()


def lose_redis(env: Environment, rng: Random) -> None:
    """Kill Redis with its data, and start it empty."""
    with record_trouble(env.observations.redis_trouble, "killed"):
        env.kill_redis()
        time.sleep(rng.uniform(0, LONGEST_OUTAGE_SECONDS))
        env.start_redis()


def empty_redis(env: Environment, _: Random) -> None:
    """Delete all data of Redis."""
    with (
        record_trouble(env.observations.redis_trouble, "emptied"),
        env.redis_client() as client,
    ):
        client.flushall()


def restore_redis(env: Environment, rng: Random) -> None:
    """Kill Redis, and start it with an older snapshot."""
    with record_trouble(env.observations.redis_trouble, "restored"):
        _restore(env, rng)


def restore_redis_and_crash(env: Environment, rng: Random) -> None:
    """Start Redis with an older snapshot, then crash the database."""
    with record_trouble(env.observations.redis_trouble, "restored"):
        _restore(env, rng)
        crash_postgres(env, rng)


def cut_connections(env: Environment, _: Random) -> None:
    """Terminate all connections of the program in the database."""
    with record_trouble(env.observations.database_trouble, "cut"):
        count(env.postgres.url, CUT)


def crash_postgres(env: Environment, rng: Random) -> None:
    """Crash the database as a power cut would, and start it again."""
    with record_trouble(env.observations.database_trouble, "crashed"):
        env.postgres.crash()
        time.sleep(rng.uniform(0, LONGEST_OUTAGE_SECONDS))
        env.postgres.start()


def save_snapshot(env: Environment) -> None:
    """Save the data of Redis for `restore_redis`."""
    with env.redis_client() as client:
        client.save()
    shutil.copyfile(env.folder / "dump.rdb", env.snapshot)


def cause_fault(env: Environment, rng: Random) -> None:
    """Cause a random fault; after some of them, save a snapshot of Redis."""
    fault = rng.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
    env.observations.faults.append(fault.name)
    fault.run(env, rng)
    if rng.random() < 0.5:
        save_snapshot(env)


def run_random_command(env: Environment, rng: Random) -> None:
    """Run a random flask command on the second host."""
    chance = rng.random()
    assistant = rng.choice(ASSISTANTS)
    if chance < 0.3:
        env.run("admin", "grant", str(assistant.email))
    elif chance < 0.6:
        _revoke(env, assistant)
    elif chance < 0.8:
        env.run("sweep", "--json")
    else:
        _kill_sweep(env, rng)


def _revoke(env: Environment, assistant: DevUser) -> None:
    """Revoke the role of an assistant who is active on both hosts and continues to read."""
    schedule_reads(env, "read before a revocation", assistant, ADMINISTRATION)
    env.run("admin", "revoke", str(assistant.email))
    env.known.add_denied(assistant, ADMINISTRATION)
    schedule_reads(env, "read after a revocation", assistant, ADMINISTRATION)


def _kill_sweep(env: Environment, rng: Random) -> None:
    """Kill a sweep during its work."""
    for _ in range(3):
        add_backlog(env)
    pause = rng.uniform(0, LONGEST_SWEEP_SECONDS)

    def is_running() -> bool:
        with suppress(DBAPIError):  # the database may be unavailable
            if count(env.postgres.url, SWEEPS_OF_COMMANDS):
                time.sleep(pause)
                return True
        return False

    env.run("sweep", "--json", should_kill=is_running)


def _end_worker(env: Environment, rng: Random, end: Callable[[psutil.Process], None]) -> None:
    host = "first"
    processes = workers(env.hosts[host])
    started = time.time()
    end(rng.choice(processes))
    env.observations.killed_workers.append(
        Interval(host, started - KILL_SECONDS, started + KILL_SECONDS)
    )
    eventually(lambda: len(workers(env.hosts[host])) == len(processes))


def _restore(env: Environment, rng: Random) -> None:
    env.kill_redis()
    time.sleep(rng.uniform(0, 1))
    env.start_redis(env.snapshot if env.snapshot.exists() else None)
    for user, access in env.known.last_denied():
        schedule_reads(env, "read after a restore of Redis", user, access)


@contextmanager
def record_trouble(troubles: list[Interval], what: str) -> Iterator[None]:
    """Record how long the block takes as an interval of trouble."""
    started = time.time()
    try:
        yield
    finally:
        troubles.append(Interval(what, started, time.time()))


FAULTS = (
    Fault("worker killed", 3, kill_worker),
    Fault("worker stopped", 2, stop_worker),
    Fault("scheduler killed", 2, kill_scheduler),
    Fault("Redis killed", 2, lose_redis),
    Fault("Redis emptied", 2, empty_redis),
    Fault("Redis restored from an old snapshot", 2, restore_redis),
    Fault("Redis restored, then PostgreSQL crashed", 1, restore_redis_and_crash),
    Fault("database connections cut", 2, cut_connections),
    Fault("PostgreSQL crashed", 2, crash_postgres),
)
