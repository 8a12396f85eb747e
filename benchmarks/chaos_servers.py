"""Where a chaos run takes place: two hosts on one PostgreSQL and one Redis, and asking them."""

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

import redis as client

from benchmarks import chaos_history
from benchmarks.chaos_rules import ADMINISTRATION, PROFILE, Answer, Command, Interval, Shown
from dev.fake_clerk import ADMIN_EMAIL, DevIdentityProvider, DevUser
from dev.servers import (
    PROJECT,
    UNLIMITED,
    Postgres,
    Redis,
    Served,
    child_environment,
    free_port,
    served,
    start_postgres,
    start_redis,
    stop,
)

SWEEP_INTERVAL_SECONDS = "10"
LONGEST_WAIT_SECONDS = 15  # for an answer; far beyond every bound
COMMAND_SECONDS = 60
PAUSE_SECONDS = 0.05
RECENT = 40  # users and profiles that operations choose from, few enough to meet each other
KILL_SECONDS = 0.5  # a connection that was accepted just before breaks as well
DATA_CODE = re.compile(rb'data-code="(\w+)"')
ADMIN = DevUser("chaos_admin", "Dona Admin", ADMIN_EMAIL)
ASSISTANTS = tuple(
    DevUser(f"chaos_assistant_{n}", f"Assistente {n}", f"assistant{n}@example.com")
    for n in range(3)
)


@dataclass(slots=True)
class Visitor:
    """A user as this side knows them; the ids are those that the program has shown."""

    person: DevUser
    user_id: int | None = None
    mentorado_id: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer with its content, as JSON where it is JSON."""

    answer: Answer
    body: bytes = b""
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Observations:
    """What was seen so far; lists only grow, so that threads may share them."""

    answers: list[Answer] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    redis_trouble: list[Interval] = field(default_factory=list)
    database_trouble: list[Interval] = field(default_factory=list)
    killed_workers: list[Interval] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Known:
    """Users and profiles of which the last few are chosen from; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._visitors: deque[Visitor] = deque(maxlen=RECENT)
        self._waiting: deque[tuple[int, str]] = deque(maxlen=RECENT)
        self._blocked: deque[Visitor] = deque(maxlen=RECENT)
        self._denied: deque[tuple[DevUser, str]] = deque(maxlen=RECENT)

    def next_number(self, count: int = 1) -> int:
        """A number that was not used before, or the first of so many in a row."""
        with self._lock:
            self._count += count
            return self._count - count

    def add(self, visitor: Visitor) -> Visitor:
        """Let this user be chosen from now on."""
        with self._lock:
            self._visitors.append(visitor)
        return visitor

    def add_waiting(self, mentorado_id: int, address: str) -> None:
        """Let this pre-registered profile be chosen from now on."""
        with self._lock:
            self._waiting.append((mentorado_id, address))

    def add_blocked(self, visitor: Visitor) -> None:
        """Remember that this user is to be allowed again."""
        with self._lock:
            self._blocked.append(visitor)

    def any_visitor(self, dice: Random) -> Visitor | None:
        """One of the last users whose ids are known."""
        with self._lock:
            found = [v for v in self._visitors if v.user_id and v.mentorado_id]
        return dice.choice(found) if found else None

    def any_waiting(self, dice: Random) -> tuple[int, str] | None:
        """One of the last pre-registered profiles: its id and its first address."""
        with self._lock:
            found = list(self._waiting)
        return dice.choice(found) if found else None

    def add_denied(self, person: DevUser, access: str) -> None:
        """Remember that an admin has taken this access from this user."""
        with self._lock:
            self._denied.append((person, access))

    def last_denied(self) -> list[tuple[DevUser, str]]:
        """The users who were denied last, most of them still so."""
        with self._lock:
            return list(self._denied)

    def take_blocked(self) -> Visitor | None:
        """The user who has been blocked for longest."""
        with self._lock:
            return self._blocked.popleft() if self._blocked else None


class Plan:
    """Calls that are due later; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[float, int, str, Callable[[Asker], object]]] = []
        self._added = 0

    def add(self, due: float, operation: str, call: Callable[[Asker], object]) -> None:
        """Have this done at that time, under the name of that operation."""
        with self._lock:
            self._added += 1
            heappush(self._calls, (due, self._added, operation, call))

    def take_due(self, now: float) -> tuple[str, Callable[[Asker], object]] | None:
        """What has been due for longest, if anything is due."""
        with self._lock:
            if not self._calls or self._calls[0][0] > now:
                return None
            _, _, operation, call = heappop(self._calls)
            return operation, call


@dataclass(slots=True)
class Stage:
    """All that a run has started, and what it has seen; everything ends with `ends`."""

    folder: Path
    postgres: Postgres
    ends: ExitStack
    seed: int
    settings: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, Served] = field(default_factory=dict)
    seen: Observations = field(default_factory=Observations)
    known: Known = field(default_factory=Known)
    plan: Plan = field(default_factory=Plan)
    redis_port: int = field(default_factory=free_port)
    redis: Redis = field(init=False)
    provider: DevIdentityProvider = field(init=False)
    scheduler: subprocess.Popen[bytes] = field(init=False)

    @property
    def snapshot(self) -> Path:
        """Where a former content of Redis is kept."""
        return self.folder / "snapshot.rdb"

    def start(self) -> None:
        """Start Redis, both hosts and the second host's scheduler; note every change from now."""
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
        """Start Redis under its address: empty, or with what a dump holds."""
        held = self.folder / "dump.rdb"
        held.unlink(missing_ok=True)
        if dump is not None:
            shutil.copyfile(dump, held)
        self.redis = self.ends.enter_context(start_redis(self.folder, self.redis_port))

    def kill_redis(self) -> None:
        """End Redis at once, with all that it holds."""
        self.redis.process.kill()
        self.redis.process.wait()

    def store(self) -> client.Redis:
        """A client of Redis."""
        return client.Redis.from_url(self.redis.url)

    def start_scheduler(self) -> None:
        """Start the second host's scheduler, which is a process of its own."""
        with (self.folder / "sweep.scheduler.log").open("ab") as log:
            self.scheduler = subprocess.Popen(  # nosec B603 # our own words, no shell
                [sys.executable, "-m", "flask", "scheduler"],
                cwd=PROJECT,
                env=self.environment("second"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def environment(self, host: str) -> dict[str, str]:
        """What a process of that host finds in its environment."""
        instance = {"INSTANCE_PATH": str(self.folder / host)}
        return child_environment({**UNLIMITED, **self.settings, **instance})

    def run(self, *arguments: str, is_to_be_killed: Callable[[], bool] | None = None) -> Command:
        """Run a flask command on the second host, and kill it as soon as that is so."""
        started = time.time()
        process = subprocess.Popen(  # nosec B603 # our own words, no shell
            [sys.executable, "-m", "flask", *arguments],
            cwd=PROJECT,
            env=self.environment("second"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while is_to_be_killed and process.poll() is None:
            if is_to_be_killed() or time.time() > started + COMMAND_SECONDS:
                process.kill()
            time.sleep(PAUSE_SECONDS)
        output, _ = process.communicate()
        name = " ".join(arguments[:2])
        command = Command(name, started, time.time(), process.returncode, output)
        self.seen.commands.append(command)
        return command

    def _start_host(self, name: str, **settings: str) -> None:
        """A host has its own folder; what it shares are the database, Redis and the identities."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "identity").symlink_to(self.folder / "identity")
        self.hosts[name] = self.ends.enter_context(served(folder, **self.settings, **settings))


@dataclass(frozen=True, slots=True)
class Asker:
    """Makes the requests of one operation, each on record under its name."""

    stage: Stage
    dice: Random
    operation: str

    def ask(
        self,
        person: DevUser | None,
        method: str,
        path: str,
        *,
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        host: str | None = None,
    ) -> Exchange:
        """Ask one of the hosts as that person, by a bearer token or, for a page, by cookie."""
        name = host or self.dice.choice(list(self.stage.hosts))
        url = self.stage.hosts[name].url
        request_id = f"{self.dice.getrandbits(96):024x}"
        sent = {"X-Request-ID": request_id, "Connection": "close", **(headers or {})}
        sent |= _credentials(self.stage.provider, person, path, url)
        content = _content(body, form, sent)
        started = time.time()
        status, received = _exchange(url, method, path, content, sent)
        ended = time.time()
        document = _json(received)
        answer = Answer(
            operation=self.operation,
            host=name,
            method=method,
            path=path,
            clerk_id=person.clerk_id if person else None,
            request_id=request_id,
            started=started,
            ended=ended,
            status=status,
            code=read_code(status, document, received),
            shown=shown_by(path, status, document, received),
        )
        self.stage.seen.answers.append(answer)
        return Exchange(answer, received, document)

    def admin(self, method: str, path: str, body: object = None) -> Exchange:
        """Ask as the admin."""
        return self.ask(ADMIN, method, f"/api/admin/{path}", body=body)

    def ensure(self, visitor: Visitor) -> Exchange:
        """Sign in, and learn the user's ids."""
        exchange = self.ask(visitor.person, "POST", "/api/auth/ensure")
        shown = exchange.answer.shown
        visitor.user_id = shown.owner_id or visitor.user_id
        visitor.mentorado_id = shown.mentorado_id or visitor.mentorado_id
        return exchange


def shown_by(path: str, status: int, document: Mapping[str, Any], body: bytes) -> Shown:
    """What an answer has shown of a user, by the address that was asked."""
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
    """The code of a refusal: of a problem document, or of a page."""
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
    said = document or {}
    return Shown(
        access=PROFILE if profile or is_own else None,
        clerk_id=said.get("user", {}).get("clerk_id"),
        owner_id=profile["user_id"] if profile else None,
        mentorado_id=profile["id"] if profile else None,
        is_created=bool(said.get("created")),
    )


def _credentials(
    provider: DevIdentityProvider, person: DevUser | None, path: str, url: str
) -> dict[str, str]:
    if person is None:
        return {}
    token = _token(provider, person)
    if path.startswith("/api/"):
        return {"Authorization": f"Bearer {token}"}
    return {"Cookie": f"__session={token}", "Origin": url}


@lru_cache(4_096)
def _token(provider: DevIdentityProvider, person: DevUser) -> str:
    """One token for each state of a user: an old one tells old news, as in real life."""
    return provider.token(person)


def _content(body: object, form: Mapping[str, str] | None, headers: dict[str, str]) -> bytes | None:
    """The content of a request; its type is added to the headers."""
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
    """Status and content of the answer; 0 where the connection broke."""
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


def set_up(folder: Path, seed: int, ends: ExitStack) -> Stage:
    """Start everything that a run needs, in a folder of its own."""
    postgres = ends.enter_context(start_postgres(folder / "database"))
    stage = Stage(folder, postgres, ends, seed)
    stage.start()
    asker = Asker(stage, dice(seed, "set-up"), "set-up")
    for person in (ADMIN, *ASSISTANTS):
        asker.ask(person, "GET", "/api/auth/me")
    return stage


def dice(seed: int, name: str) -> Random:
    """What decides at random in one thread of a run; the same for the same seed."""
    return Random(f"{seed} {name}")  # nosec B311 # noqa: S311 - no secret
