"""The servers of a chaos run (two hosts, one PostgreSQL, one Redis), and the requests to them."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

import redis as redis_client

from benchmarks import chaos_history
from benchmarks.chaos_rules import ADMINISTRATION, PROFILE, Answer, Command, Interval, Shown
from benchmarks.servers import (
    PROJECT,
    UNLIMITED,
    AppServer,
    PostgresServer,
    RedisServer,
    child_environment,
    free_port,
    run_app,
    start_postgres,
    start_redis,
    stop,
)
from dev.fake_clerk import ADMIN_EMAIL, DevIdentityProvider, DevUser

SWEEP_INTERVAL_SECONDS = "10"
LONGEST_WAIT_SECONDS = 15  # for an answer; above every bound
COMMAND_SECONDS = 60
PAUSE_SECONDS = 0.05
RECENT = 40  # users and profiles that operations choose from; few, so that operations conflict
KILL_SECONDS = 0.5  # before a kill, in which accepted connections break as well
DATA_CODE = re.compile(rb'data-code="(\w+)"')
ADMIN = DevUser("chaos_admin", "Dona Admin", ADMIN_EMAIL)
ASSISTANTS = tuple(
    DevUser(f"chaos_assistant_{n}", f"Assistente {n}", f"assistant{n}@example.com")
    for n in range(3)
)


@dataclass(slots=True)
class Visitor:
    """A user of the run; the ids are from the answers so far."""

    user: DevUser
    user_id: int | None = None
    mentorado_id: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer with its body, also parsed if it is JSON."""

    answer: Answer
    body: bytes = b""
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Observations:
    """All observations so far; the lists only grow, so threads can share them."""

    answers: list[Answer] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    redis_trouble: list[Interval] = field(default_factory=list)
    database_trouble: list[Interval] = field(default_factory=list)
    killed_workers: list[Interval] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class KnownUsers:
    """The latest users and profiles, from which operations choose; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._visitors: deque[Visitor] = deque(maxlen=RECENT)
        self._pre_registered: deque[tuple[int, str]] = deque(maxlen=RECENT)
        self._blocked: deque[Visitor] = deque(maxlen=RECENT)
        self._denied: deque[tuple[DevUser, str]] = deque(maxlen=RECENT)

    def next_number(self, count: int = 1) -> int:
        """Return an unused number, the first of `count` consecutive ones."""
        with self._lock:
            self._count += count
            return self._count - count

    def add(self, visitor: Visitor) -> Visitor:
        """Add a user; returns it."""
        with self._lock:
            self._visitors.append(visitor)
        return visitor

    def add_pre_registered(self, mentorado_id: int, address: str) -> None:
        """Add a pre-registered profile."""
        with self._lock:
            self._pre_registered.append((mentorado_id, address))

    def add_blocked(self, visitor: Visitor) -> None:
        """Add a user whom a later operation allows again."""
        with self._lock:
            self._blocked.append(visitor)

    def any_visitor(self, rng: Random) -> Visitor | None:
        """Return a random user with known ids, or None."""
        with self._lock:
            found = [v for v in self._visitors if v.user_id and v.mentorado_id]
        return rng.choice(found) if found else None

    def any_pre_registered(self, rng: Random) -> tuple[int, str] | None:
        """Return the id and first address of a random pre-registered profile, or None."""
        with self._lock:
            found = list(self._pre_registered)
        return rng.choice(found) if found else None

    def add_denied(self, user: DevUser, access: str) -> None:
        """Add a user from whom an admin has taken this access."""
        with self._lock:
            self._denied.append((user, access))

    def last_denied(self) -> list[tuple[DevUser, str]]:
        """Return the users who were denied last; some may be allowed again."""
        with self._lock:
            return list(self._denied)

    def take_blocked(self) -> Visitor | None:
        """Remove and return the user who was blocked first, or None."""
        with self._lock:
            return self._blocked.popleft() if self._blocked else None


class Schedule:
    """Calls that are due later; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[float, int, str, Callable[[Client], object]]] = []
        self._added = 0

    def add(self, due: float, operation: str, call: Callable[[Client], object]) -> None:
        """Add a call at a time, recorded under the name of the operation."""
        with self._lock:
            self._added += 1
            heappush(self._calls, (due, self._added, operation, call))

    def take_due(self, now: float) -> tuple[str, Callable[[Client], object]] | None:
        """Remove and return the call that was due first, or None."""
        with self._lock:
            if not self._calls or self._calls[0][0] > now:
                return None
            _, _, operation, call = heappop(self._calls)
            return operation, call


@dataclass(slots=True)
class Environment:
    """The processes of a run and its observations; `ends` stops all processes."""

    folder: Path
    postgres: PostgresServer
    ends: ExitStack
    seed: int
    settings: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, AppServer] = field(default_factory=dict)
    observations: Observations = field(default_factory=Observations)
    known: KnownUsers = field(default_factory=KnownUsers)
    schedule: Schedule = field(default_factory=Schedule)
    redis_port: int = field(default_factory=free_port)
    redis: RedisServer = field(init=False)
    provider: DevIdentityProvider = field(init=False)
    scheduler: subprocess.Popen[bytes] = field(init=False)

    @property
    def snapshot(self) -> Path:
        """Return the path of the Redis snapshot."""
        return self.folder / "snapshot.rdb"

    def start(self) -> None:
        """Start Redis, both hosts and the second host's scheduler; record every change."""
        self.provider = DevIdentityProvider(self.folder / "identity")
        self.start_redis()
        chaos_history.track_commits(self.postgres)
        self.settings = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": secrets.token_hex(32),
            "CLERK_WEBHOOK_SECRET": self.provider.webhook_secret,
            "SWEEP_INTERVAL_SECONDS": SWEEP_INTERVAL_SECONDS,
        }
        self._start_host("first", WEB_CONCURRENCY="2")
        self._start_host("second", WEB_CONCURRENCY="1", SCHEDULER="off")
        chaos_history.install(self.postgres.url)
        self.ends.callback(lambda: stop(self.scheduler))
        self.start_scheduler()

    def start_redis(self, dump: Path | None = None) -> None:
        """Start Redis on its port, empty or with the data of a dump."""
        data = self.folder / "dump.rdb"
        data.unlink(missing_ok=True)
        if dump is not None:
            shutil.copyfile(dump, data)
        self.redis = self.ends.enter_context(start_redis(self.folder, self.redis_port))

    def kill_redis(self) -> None:
        """Kill Redis, which loses its data."""
        self.redis.process.kill()
        self.redis.process.wait()

    def redis_client(self) -> redis_client.Redis:
        """Return a client of Redis."""
        return redis_client.Redis.from_url(self.redis.url)

    def start_scheduler(self) -> None:
        """Start the second host's scheduler in a process of its own."""
        with (self.folder / "scheduler.log").open("ab") as log:
            self.scheduler = subprocess.Popen(  # nosec B603 # fixed arguments, no shell
                [sys.executable, "-m", "flask", "scheduler"],
                cwd=PROJECT,
                env=self.process_environment("second"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def process_environment(self, host: str) -> dict[str, str]:
        """Return the environment variables of a process of that host."""
        instance = {"INSTANCE_PATH": str(self.folder / host)}
        return child_environment({**UNLIMITED, **self.settings, **instance})

    def run(self, *arguments: str, should_kill: Callable[[], bool] | None = None) -> Command:
        """Run a flask command on the second host; kill it once `should_kill` returns true."""
        started = time.time()
        process = subprocess.Popen(  # nosec B603 # fixed arguments, no shell
            [sys.executable, "-m", "flask", *arguments],
            cwd=PROJECT,
            env=self.process_environment("second"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while should_kill and process.poll() is None:
            if should_kill() or time.time() > started + COMMAND_SECONDS:
                process.kill()
            time.sleep(PAUSE_SECONDS)
        output, _ = process.communicate()
        name = " ".join(arguments[:2])
        command = Command(name, started, time.time(), process.returncode, output)
        self.observations.commands.append(command)
        return command

    def _start_host(self, name: str, **settings: str) -> None:
        """Start a host with a folder of its own; database, Redis and identities are shared."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "identity").symlink_to(self.folder / "identity")
        self.hosts[name] = self.ends.enter_context(run_app(folder, **self.settings, **settings))


@dataclass(frozen=True, slots=True)
class Client:
    """Sends the requests of one operation and records them under its name."""

    env: Environment
    rng: Random
    operation: str

    def request(
        self,
        user: DevUser | None,
        method: str,
        path: str,
        *,
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        host: str | None = None,
    ) -> Exchange:
        """Send a request to a host as that user, with a bearer token or, for pages, a cookie."""
        name = host or self.rng.choice(list(self.env.hosts))
        url = self.env.hosts[name].url
        request_id = f"{self.rng.getrandbits(96):024x}"
        all_headers = {"X-Request-ID": request_id, "Connection": "close", **(headers or {})}
        all_headers |= _credentials(self.env.provider, user, path, url)
        content = _content(body, form, all_headers)
        started = time.time()
        status, received = _exchange(url, method, path, content, all_headers)
        ended = time.time()
        document = _json(received)
        answer = Answer(
            operation=self.operation,
            host=name,
            method=method,
            path=path,
            clerk_id=user.clerk_id if user else None,
            request_id=request_id,
            started=started,
            ended=ended,
            status=status,
            code=read_code(status, document, received),
            shown=shown_by(path, status, document, received),
        )
        self.env.observations.answers.append(answer)
        return Exchange(answer, received, document)

    def admin(self, method: str, path: str, body: object = None) -> Exchange:
        """Send a request to the admin API as the admin."""
        return self.request(ADMIN, method, f"/api/admin/{path}", body=body)

    def ensure(self, visitor: Visitor) -> Exchange:
        """Sign in, and store the user's ids in the visitor."""
        exchange = self.request(visitor.user, "POST", "/api/auth/ensure")
        shown = exchange.answer.shown
        visitor.user_id = shown.owner_id or visitor.user_id
        visitor.mentorado_id = shown.mentorado_id or visitor.mentorado_id
        return exchange


def shown_by(path: str, status: int, document: Mapping[str, Any], body: bytes) -> Shown:
    """Return which user's data an answer contains, by the path of the request."""
    if status not in (200, 201):
        return Shown()
    if path.startswith(("/api/admin", "/admin")):
        return Shown(ADMINISTRATION)
    if path == "/dashboard":
        return Shown(PROFILE if b"data-code" not in body else None)
    if path.startswith("/api/mentorados/me"):
        return _shown_profile(document if "nome_completo" in document else None, is_own=True)
    if path.startswith("/api/auth/"):
        return _shown_profile(document.get("mentorado"), is_own=False, document=document)
    return Shown()


def read_code(status: int, document: Mapping[str, Any], body: bytes) -> str | None:
    """Return the code of a problem document or an error page; None without an error."""
    if status < 400:
        return None
    found = DATA_CODE.search(body)
    code: str | None = document.get("code") or (found[1].decode() if found else None)
    return code


def _shown_profile(
    profile: Mapping[str, Any] | None,
    *,
    is_own: bool,
    document: Mapping[str, Any] | None = None,
) -> Shown:
    content = document or {}
    return Shown(
        access=PROFILE if profile or is_own else None,
        clerk_id=content.get("user", {}).get("clerk_id"),
        owner_id=profile["user_id"] if profile else None,
        mentorado_id=profile["id"] if profile else None,
        is_created=bool(content.get("created")),
    )


def _credentials(
    provider: DevIdentityProvider, user: DevUser | None, path: str, url: str
) -> dict[str, str]:
    if user is None:
        return {}
    token = _token(provider, user)
    if path.startswith("/api/"):
        return {"Authorization": f"Bearer {token}"}
    return {"Cookie": f"__session={token}", "Origin": url}


@lru_cache(4_096)
def _token(provider: DevIdentityProvider, user: DevUser) -> str:
    """Return one token for each state of a user; an older token carries older claims."""
    return provider.token(user)


def _content(body: object, form: Mapping[str, str] | None, headers: dict[str, str]) -> bytes | None:
    """Return the body of a request; its type is added to the headers."""
    if isinstance(body, bytes):
        return body
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return urlencode(form).encode()
    if body is None:
        return None
    headers["Content-Type"] = "application/json"
    return json.dumps(body).encode()


def _exchange(
    url: str, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Return status and body of the answer; the status is 0 if the connection broke."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=LONGEST_WAIT_SECONDS)
    try:
        connection.request(method, path, content, dict(headers))
        response: HTTPResponse = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _json(body: bytes) -> Mapping[str, Any]:
    if body[:1] != b"{":
        return {}
    document: Mapping[str, Any] = json.loads(body)
    return document


def set_up(folder: Path, seed: int, ends: ExitStack) -> Environment:
    """Start all processes of a run in the folder, and create the admins' users."""
    postgres = ends.enter_context(start_postgres(folder / "database"))
    env = Environment(folder, postgres, ends, seed)
    env.start()
    client = Client(env, seeded_random(seed, "set-up"), "set-up")
    for user in (ADMIN, *ASSISTANTS):
        client.request(user, "GET", "/api/auth/me")
    return env


def seeded_random(seed: int, name: str) -> Random:
    """Return the random generator of one thread; equal for equal seeds and names."""
    return Random(f"{seed} {name}")  # nosec B311 # noqa: S311 - no secret
