"""Does the guarantee hold while things break? The load test, and meanwhile the mishaps."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import (
    PROFILES,
    REPORTS,
    WORKERS,
    Run,
    common_options,
    conclude,
    crowded,
    errors_logged,
    look_into_the_database,
)
from benchmarks.load_report import read_result
from dev.databases import count
from dev.servers import (
    Postgres,
    Redis,
    Served,
    eventually,
    free_port,
    served,
    start_postgres,
    start_redis,
    workers,
)

SHAPE = "mixed"  # somebody new comes all the time, and somebody's devices all at once
LONGEST_SECONDS = 600  # the mishaps are over long before, and then the crowd is sent home
PATIENCE_SECONDS = 30  # for something to be noticed, on a machine that has much else to do
PAUSE_SECONDS = 0.1
REFUSED = "mentorado_creation_failed"  # goes with the 503 that the person was told
KILLED = "Worker (pid:"
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""


@dataclass(slots=True)
class Scene:
    """What may break: processes that were started for this, and no others."""

    folder: Path
    postgres: Postgres
    ends: ExitStack
    redis_port: int = field(default_factory=free_port)
    redis: Redis = field(init=False)
    app: Served = field(init=False)

    def start_redis(self) -> None:
        """Start Redis, each time under the same address."""
        self.redis = self.ends.enter_context(start_redis(self.folder, self.redis_port))

    def kill_redis(self) -> None:
        """End it at once, with all it remembers."""
        self.redis.process.kill()
        self.redis.process.wait()

    def cut_connections(self) -> None:
        """Have PostgreSQL end every connection of the app, whatever it is doing."""
        count(self.postgres.url, CUT)

    def crash_postgres(self) -> None:
        """End PostgreSQL as a power cut would."""
        self.postgres.crash()

    def start_postgres(self) -> None:
        """Start PostgreSQL again, which then repairs itself."""
        self.postgres.start()

    def kill_worker(self) -> None:
        """Kill one of the processes that serve; gunicorn starts another."""
        workers(self.app)[0].kill()

    def nothing(self) -> None:
        """Leave it as it is."""

    def profiles(self) -> int:
        """How many there are by now."""
        return count(self.postgres.url, PROFILES)

    def told(self, event: str) -> int:
        """How often the log has told of it by now."""
        return self.app.log.read_text().count(f'"event": "{event}')


@dataclass(frozen=True, slots=True)
class Mishap:
    """What happens, what the log says when it hurts, and what it excuses.

    `forgiven` are answers, `logged` is how errors in the log may begin.
    """

    begin: Callable[[Scene], None]
    sign: str
    again: Callable[[Scene], None] = Scene.nothing
    end: Callable[[Scene], None] = Scene.nothing
    forgiven: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()


MISHAPS = {
    "redis": Mishap(Scene.kill_redis, "cache_error", end=Scene.start_redis),
    "connections": Mishap(
        Scene.cut_connections,
        "mentorado_ensure_retried",
        again=Scene.cut_connections,
        forgiven=("waiting",),
        logged=(REFUSED,),
    ),
    "database": Mishap(
        Scene.crash_postgres,
        REFUSED,
        end=Scene.start_postgres,
        forgiven=("waiting",),
        logged=(REFUSED,),
    ),
    "worker": Mishap(Scene.kill_worker, KILLED, forgiven=("lost",), logged=(KILLED,)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Let it all happen and return the exit code: 0 only when nobody was the worse for it."""
    wanted = _parser().parse_args(arguments)
    mishaps = {name: MISHAPS[name] for name in wanted.only}
    excused = sum((mishap.logged for mishap in mishaps.values()), ())
    forgiven = tuple({kind for mishap in mishaps.values() for kind in mishap.forgiven})
    run = Run(wanted.users, LONGEST_SECONDS, SHAPE, wanted.slowest_first_login, forgiven)
    with ExitStack() as ends:
        scene = _set_up(ends)
        with crowded(scene.app, run, wanted.report) as locust:
            problems = list(_endure(scene, mishaps, wanted.seconds))
            if locust.poll() is not None:
                problems.append("the load was over before the mishaps were")
        result = read_result(wanted.report, run.name, is_good=locust.returncode == 0)
        problems += look_into_the_database(scene.postgres.folder)
        problems += errors_logged(scene.app.log, excused)
    return conclude("mishaps", wanted.report, [result], problems)


def _parser() -> argparse.ArgumentParser:
    parser = common_options(__doc__, REPORTS / "mishaps")
    add = parser.add_argument
    add("--only", choices=MISHAPS, nargs="+", default=MISHAPS, help="these, in turn")
    add("--users", type=int, default=20, help="how many act at the same time")
    add("--seconds", type=float, default=5, help="how long each mishap lasts")
    return parser


def _set_up(ends: ExitStack) -> Scene:
    folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
    postgres = ends.enter_context(start_postgres(folder / "database"))
    scene = Scene(folder, postgres, ends)
    scene.start_redis()
    where = {"DATABASE_URL": postgres.url, "REDIS_URL": scene.redis.url}
    scene.app = ends.enter_context(served(folder, WEB_CONCURRENCY=WORKERS, **where))
    return scene


def _endure(scene: Scene, mishaps: Mapping[str, Mishap], seconds: float) -> Iterator[str]:
    """One mishap after the other, with somebody new before, during and after each; what failed."""
    if not _is_somebody_new_served(scene):
        yield "nobody came"
    for name, mishap in mishaps.items():
        if not _hurts(scene, mishap, seconds):
            yield f"{name}: nobody noticed"
        mended = time.monotonic()
        if not _is_somebody_new_served(scene):
            yield f"{name}: nobody new was served afterwards"
        print(f"{name}: over, and the next profile {time.monotonic() - mended:.2f} s later")


def _hurts(scene: Scene, mishap: Mishap, seconds: float) -> bool:
    """Let it last that long, and until it was noticed; False where it never was."""
    before, start = scene.told(mishap.sign), time.monotonic()
    mishap.begin(scene)
    passed, is_noticed = 0.0, False
    while passed < seconds or (not is_noticed and passed < PATIENCE_SECONDS):
        time.sleep(PAUSE_SECONDS)
        mishap.again(scene)
        passed, is_noticed = time.monotonic() - start, scene.told(mishap.sign) > before
    mishap.end(scene)
    return is_noticed


def _is_somebody_new_served(scene: Scene) -> bool:
    before = scene.profiles()
    return eventually(lambda: scene.profiles() > before, seconds=PATIENCE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
