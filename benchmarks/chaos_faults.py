"""What breaks during a chaos run: one fault at a time, each over when its function returns."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

import psutil
from sqlalchemy.exc import DBAPIError

from benchmarks.chaos_operations import add_backlog, look_again
from benchmarks.chaos_rules import ADMINISTRATION, Interval
from benchmarks.chaos_servers import ASSISTANTS, KILL_SECONDS, Stage
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import eventually, workers

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""
SWEEPS_OF_COMMANDS = "SELECT count(*) FROM sweep_runs WHERE trigger = 'cli' AND status = 'running'"
LONGEST_OUTAGE_SECONDS = 3.0
LONGEST_START_OF_A_SWEEP_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks, and how often compared to the others."""

    name: str
    weight: int
    run: Callable[[Stage, Random], object]


def kill_worker(stage: Stage, dice: Random) -> None:
    """A process of the first host is killed in the middle of its work; gunicorn starts another."""
    _end_worker(stage, dice, psutil.Process.kill)


def stop_worker(stage: Stage, dice: Random) -> None:
    """A process of the first host is asked to stop; gunicorn starts another."""
    _end_worker(stage, dice, psutil.Process.terminate)


def kill_scheduler(stage: Stage, _: Random) -> None:
    """The second host's scheduler is killed, perhaps in the middle of a sweep, and starts again."""
    stage.scheduler.kill()
    stage.scheduler.wait()
    stage.start_scheduler()


def lose_redis(stage: Stage, dice: Random) -> None:
    """Redis is killed with all that it holds, and comes back empty."""
    with noted(stage.seen.redis_trouble, "killed"):
        stage.kill_redis()
        time.sleep(dice.uniform(0, LONGEST_OUTAGE_SECONDS))
        stage.start_redis()


def empty_redis(stage: Stage, _: Random) -> None:
    """Somebody empties Redis."""
    with noted(stage.seen.redis_trouble, "emptied"), stage.store() as store:
        store.flushall()


def restore_redis(stage: Stage, dice: Random) -> None:
    """Redis is killed and comes back with what it held some time ago."""
    with noted(stage.seen.redis_trouble, "restored"):
        _restore(stage, dice)


def restore_redis_and_crash(stage: Stage, dice: Random) -> None:
    """Redis comes back with what it held some time ago, and then the database is away."""
    with noted(stage.seen.redis_trouble, "restored"):
        _restore(stage, dice)
        crash_postgres(stage, dice)


def cut_connections(stage: Stage, _: Random) -> None:
    """The database ends every connection of the program, whatever it is doing."""
    with noted(stage.seen.database_trouble, "cut"):
        count(stage.postgres.url, CUT)


def crash_postgres(stage: Stage, dice: Random) -> None:
    """The database ends as in a power cut, and is started again."""
    with noted(stage.seen.database_trouble, "crashed"):
        stage.postgres.crash()
        time.sleep(dice.uniform(0, LONGEST_OUTAGE_SECONDS))
        stage.postgres.start()


def keep_a_snapshot(stage: Stage) -> None:
    """Keep what Redis holds now, for `restore_redis`."""
    with stage.store() as store:
        store.save()
    shutil.copyfile(stage.folder / "dump.rdb", stage.snapshot)


def break_something(stage: Stage, dice: Random) -> None:
    """Let one fault happen; before some of them, keep a snapshot of Redis for a later one."""
    fault = dice.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
    stage.seen.faults.append(fault.name)
    fault.run(stage, dice)
    if dice.random() < 0.5:
        keep_a_snapshot(stage)


def run_a_command(stage: Stage, dice: Random) -> None:
    """Somebody types a flask command on the second host."""
    chance = dice.random()
    assistant = dice.choice(ASSISTANTS)
    if chance < 0.3:
        stage.run("admin", "grant", str(assistant.email))
    elif chance < 0.6:
        _revoke(stage, assistant)
    elif chance < 0.8:
        stage.run("sweep", "--json")
    else:
        _kill_a_sweep(stage, dice)


def _revoke(stage: Stage, assistant: DevUser) -> None:
    """An assistant who is active on both hosts loses the role, and goes on looking."""
    look_again(stage, "look before a revocation", assistant, ADMINISTRATION)
    stage.run("admin", "revoke", str(assistant.email))
    stage.known.add_denied(assistant, ADMINISTRATION)
    look_again(stage, "look after a revocation", assistant, ADMINISTRATION)


def _kill_a_sweep(stage: Stage, dice: Random) -> None:
    """A sweep is killed in the middle of its work."""
    for _ in range(3):
        add_backlog(stage)
    pause = dice.uniform(0, LONGEST_START_OF_A_SWEEP_SECONDS)

    def is_on() -> bool:
        with suppress(DBAPIError):  # the database may be away just now
            if count(stage.postgres.url, SWEEPS_OF_COMMANDS):
                time.sleep(pause)
                return True
        return False

    stage.run("sweep", "--json", is_to_be_killed=is_on)


def _end_worker(stage: Stage, dice: Random, end: Callable[[psutil.Process], None]) -> None:
    host = "first"
    processes = workers(stage.hosts[host])
    started = time.time()
    end(dice.choice(processes))
    stage.seen.killed_workers.append(Interval(host, started - KILL_SECONDS, started + KILL_SECONDS))
    eventually(lambda: len(workers(stage.hosts[host])) == len(processes))


def _restore(stage: Stage, dice: Random) -> None:
    stage.kill_redis()
    time.sleep(dice.uniform(0, 1))
    stage.start_redis(stage.snapshot if stage.snapshot.exists() else None)
    for person, access in stage.known.last_denied():
        look_again(stage, "look after Redis was restored", person, access)


@contextmanager
def noted(troubles: list[Interval], what: str) -> Iterator[None]:
    """Note for how long something was broken."""
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
