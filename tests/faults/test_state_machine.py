"""Hypothesis state machine: invariants hold after logins, admin changes, sweeps and faults.

Two apps represent two processes on one database. Their clocks stand still; `let_time_pass` moves
them, together with the times to live in Redis.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache as cached
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import redis as client
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.engine import Connection

from auth.identity import Identity
from auth.tokens import identity_from_claims
from benchmarks.chaos_operations import CONFIRMED_FIELD, FormReader
from benchmarks.databases import connect_to
from benchmarks.servers import RedisServer, free_port, start_redis
from core.cache import LocalStore
from core.circuit_breaker import CircuitBreaker
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from provisioning.audit import Source
from provisioning.errors import ProvisioningError
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.concurrency import Clock
from tests.support.html_page import SAME_ORIGIN
from tests.support.users import NOW
from web.services import EXTENSION, Services

NAMES = ("ana", "bia", "caio")
DELETED_NAME = "davi"  # the only user whose account is deleted
ADMIN = DevUser("dona", "Dona Admin", ADMIN_EMAIL)
USER_NAMES = st.sampled_from((*NAMES, DELETED_NAME))
X, X_AGAIN, Y = "x@example.com", "X@Example.com", "y@example.com"
ADDRESS = st.sampled_from([X, X_AGAIN, Y])
PICK = st.integers(0, 3)
PROCESS = st.integers(0, 1)
MAX_STALE_SECONDS = 5.0  # after a change that was not published to Redis
STEP_SECONDS = st.sampled_from([1.0, 4.0, 6.0])
ENROL = "/admin/mentorados/novos"

# A trigger that refuses profiles with the SQLSTATE in `faults`, which is permanent or transient.
CREATE_FAULTS = """
CREATE TABLE faults (code text);
CREATE FUNCTION refuse_profile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.user_id IS NOT NULL AND EXISTS (SELECT 1 FROM faults) THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = (SELECT min(code) FROM faults);
    END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse_profile BEFORE INSERT ON mentorados
   FOR EACH ROW EXECUTE FUNCTION refuse_profile();
"""
DELETE_ALL_ROWS = """
TRUNCATE users, mentorados, audit_events, sweep_runs, provisioning_attempts, app_settings, faults,
         webhook_messages
RESTART IDENTITY CASCADE
"""
USERS_WITH_TWO_PROFILES = "SELECT user_id FROM mentorados GROUP BY 1 HAVING count(user_id) > 1"
DELETED_USERS_WITH_PROFILE = """
SELECT m.id FROM mentorados AS m JOIN users AS u ON u.id = m.user_id WHERE u.deleted_at IS NOT NULL
"""
# Each profile with its owner, and whether the owner has verified its address.
OWNERS = """
SELECT m.id, m.user_id,
       u.email_verified AND normalized_address(u.email) = normalized_address(m.email)
  FROM mentorados AS m LEFT JOIN users AS u ON u.id = m.user_id
"""
REGISTERED_TWICE = """
SELECT normalized_address(m.email) FROM mentorados AS m
 WHERE m.user_id IS NULL AND m.email IS NOT NULL AND NOT EXISTS (
       SELECT 1 FROM audit_events AS e
        WHERE e.mentorado_id = m.id AND e.user_id IS NOT NULL)
 GROUP BY 1 HAVING count(*) > 1
"""
USERS_WITHOUT_PROFILE = """
SELECT clerk_id FROM users AS u
 WHERE role = 'user' AND blocked_at IS NULL AND deleted_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM mentorados AS m WHERE m.user_id = u.id)
   AND NOT EXISTS (SELECT 1 FROM provisioning_attempts AS a
                    WHERE a.clerk_id = u.clerk_id AND a.state = 'dead')
"""
ACCESS = """
SELECT u.clerk_id, u.blocked_at IS NOT NULL OR u.deleted_at IS NOT NULL, u.role = 'admin',
       m.id, coalesce(m.ativo = 'sim', true)
  FROM users AS u LEFT JOIN mentorados AS m ON m.user_id = u.id
"""
OTHER_USERS = "users WHERE clerk_id <> 'dona'"  # all but the admin
# Changes of a profile that end its owner's access to it.
CHANGES = {
    "deactivate": ("PATCH", "", {"ativo": "nao"}),
    "delete": ("DELETE", "", None),
    "unlink": ("POST", "/unlink", None),
}
BLOCK_UNPUBLISHED = "UPDATE users SET blocked_at = now() WHERE id = {}"


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may access, according to the database."""

    is_denied: bool
    is_admin: bool
    mentorado_id: int | None
    is_active: bool


@dataclass(slots=True)
class ObservedAccess:
    """A user's access, the time of its last change, and whether Redis has been available since."""

    access: Access
    since: float
    is_published: bool


@dataclass(slots=True)
class Environment:
    """Two apps, their database, and their Redis if they have one."""

    apps: tuple[Flask, Flask]
    database: Connection
    exit_stack: ExitStack
    folder: Path
    port: int | None
    redis: RedisServer | None = None
    clock: Clock = field(default_factory=Clock)

    def stop_clocks(self) -> None:
        """Replace the clocks of both apps by the clock of this environment."""
        for app in self.apps:
            with app.app_context():
                contexts = cast(Services, app.extensions[EXTENSION]).provisioning.contexts
                contexts.clock = self.clock
                if isinstance(contexts.store, LocalStore):
                    contexts.store.clock = self.clock
                else:
                    contexts.store.circuit = CircuitBreaker(clock=self.clock)

    def limit_retries(self, seconds: float) -> None:
        """Let both apps retry for this time only."""
        for app in self.apps:
            services = cast(Services, app.extensions[EXTENSION])
            unit_of_work = replace(services.provisioning.unit_of_work, budget_seconds=seconds)
            provisioning = replace(services.provisioning, unit_of_work=unit_of_work)
            app.extensions[EXTENSION] = replace(services, provisioning=provisioning)

    def start_redis(self) -> None:
        """Start an empty Redis on its port, unless it runs or the machine has none."""
        if self.port is not None and self.redis is None:
            self.redis = self.exit_stack.enter_context(start_redis(self.folder, self.port))

    def kill_redis(self) -> None:
        """Kill Redis; its data is lost."""
        if self.redis is not None:
            self.redis.process.kill()
            self.redis.process.wait()
            self.redis = None

    def store(self) -> client.Redis:
        """Return a client of Redis."""
        assert self.redis is not None
        return client.Redis.from_url(self.redis.url)


class Machine(RuleBasedStateMachine):
    """Rules for logins, changed identities, admins, commands, sweeps, lost caches and faults."""

    environment: Environment

    def __init__(self) -> None:
        super().__init__()
        self.app = self.environment.apps[0]
        self.identities = {name: DevUser(name) for name in (*NAMES, DELETED_NAME)}
        self.owners: dict[int, int | None] = {}
        self.reassigned: set[int] = set()  # profiles whose owner this step may change
        self.observed: dict[str, ObservedAccess] = {}
        self.is_unpublished = False  # whether this step changes rows without publishing versions
        self.snapshot: dict[bytes, tuple[bytes, float]] = {}
        self._query(DELETE_ALL_ROWS)
        self.environment.start_redis()
        self._reset_caches()

    # --- users and Clerk ---

    @rule(name=USER_NAMES, email=st.none() | ADDRESS, verified=st.booleans(), process=PROCESS)
    def sign_in(self, name: str, email: str | None, verified: bool, process: int) -> None:
        """A user signs in with a new identity."""
        self.identities[name] = DevUser(name, name.title(), email, email_verified=verified)
        self._send(self.identities[name], "GET", "/api/auth/me", process=process)

    @rule(name=USER_NAMES, process=PROCESS)
    def sign_in_again(self, name: str, process: int) -> None:
        """A user sends a request with the last identity."""
        self._send(self.identities[name], "GET", "/api/mentorados/me", process=process)

    @rule(name=USER_NAMES, process=PROCESS)
    def open_the_admin_console(self, name: str, process: int) -> None:
        """A user, who may be an admin, requests the list of users."""
        self._send(self.identities[name], "GET", "/api/admin/users", process=process)

    @rule(name=USER_NAMES, email=ADDRESS, verified=st.booleans())
    def receive_user_updated(self, name: str, email: str, verified: bool) -> None:
        """A webhook reports a changed address."""
        user = DevUser(name, name.title(), email, email_verified=verified)
        ensure = partial(self._services.provisioning.ensure, source=Source("webhook"), now=NOW)
        self._call_ignoring_errors(lambda: ensure(self._identity(user)))

    @rule()
    def receive_user_deleted(self) -> None:
        """A webhook reports a deleted account; its profile loses its owner."""
        self.reassigned |= {
            m for m, user_id in self._owned() if user_id == self._user_id(DELETED_NAME)
        }
        handle = self._services.provisioning.handle_user_deleted
        identity = Identity(DELETED_NAME)
        message = (f"msg_{len(self._rows('webhook_messages'))}", "user.deleted")
        self._call_ignoring_errors(
            lambda: handle(message, identity, source=Source("webhook"), now=NOW)
        )

    # --- admins ---

    @rule(email=ADDRESS)
    def register(self, email: str) -> None:
        """An admin pre-registers an address."""
        self._admin("POST", "mentorados", {"nome_completo": "Esperada", "email": email})

    @rule(emails=st.lists(ADDRESS, min_size=1, max_size=3), times=st.integers(1, 2))
    def import_list(self, emails: list[str], times: int) -> None:
        """An admin imports a list; the form may be sent twice."""
        lines = ["nome;e-mail", *(f"Da lista;{email}" for email in emails)]
        page = self._page({"lista": "\n".join(lines)})
        for _ in range(times):
            form = next((form for form in page.forms if CONFIRMED_FIELD in form), None)
            if form is not None:
                self._page(form)

    @rule(pick=PICK, email=st.none() | ADDRESS)
    def change_address(self, pick: int, email: str | None) -> None:
        """An admin changes the address of a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("PATCH", f"mentorados/{mentorado_id}", {"email": email})

    @rule(pick=PICK, ativo=st.sampled_from(["sim", "nao"]))
    def set_active(self, pick: int, ativo: str) -> None:
        """An admin deactivates or activates a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("PATCH", f"mentorados/{mentorado_id}", {"ativo": ativo})

    @rule(pick=PICK, change=st.sampled_from(["block", "allow", "retry"]))
    def change_user(self, pick: int, change: str) -> None:
        """An admin blocks, allows or retries a user."""
        for user_id in self._picked(OTHER_USERS, pick):
            self._admin("POST", f"users/{user_id}/{change}")

    @rule(pick=PICK, other=PICK)
    def link(self, pick: int, other: int) -> None:
        """An admin links a profile to a user."""
        for mentorado_id in self._picked("mentorados", pick):
            for user_id in self._picked(OTHER_USERS, other):
                self.reassigned.add(mentorado_id)
                self._admin("POST", f"mentorados/{mentorado_id}/link", {"user_id": user_id})

    @rule(pick=PICK)
    def unlink(self, pick: int) -> None:
        """An admin unlinks a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self.reassigned.add(mentorado_id)
            self._admin("POST", f"mentorados/{mentorado_id}/unlink")

    @rule(pick=PICK, other=PICK)
    def merge(self, pick: int, other: int) -> None:
        """An admin merges two profiles."""
        for mentorado_id in self._picked("mentorados", pick):
            for into in self._picked("mentorados", other):
                self.reassigned.add(into)
                body = {"into": into, "dry_run": False}
                self._admin("POST", f"mentorados/{mentorado_id}/merge", body)

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        """An admin deletes a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("DELETE", f"mentorados/{mentorado_id}")

    @rule(enabled=st.booleans())
    def set_auto_create(self, enabled: bool) -> None:
        """An admin enables or disables automatic creation."""
        self._admin("PUT", "settings/auto-create", {"enabled": enabled})

    # --- commands and sweeps ---

    @rule(command=st.sampled_from(["grant", "revoke"]), email=ADDRESS, process=PROCESS)
    def change_role(self, command: str, email: str, process: int) -> None:
        """A command grants or revokes the admin role."""
        app = self.environment.apps[process]
        app.test_cli_runner().invoke(args=["admin", command, email])

    @rule()
    def sweep(self) -> None:
        """A sweep runs, with or without a fault."""
        with self.app.app_context():
            Sweeper(self._services.provisioning, batch_size=2).start("cli")

    @rule()
    def sweep_without_faults(self) -> None:
        """After a sweep without faults, every user who is not denied has a profile."""
        self.remove_faults()
        self.set_auto_create(enabled=True)
        self.sweep()

        assert self._query(USERS_WITHOUT_PROFILE) == []

    # --- faults ---

    @rule(code=st.sampled_from(["23514", "40001"]))
    def add_fault(self, code: str) -> None:
        """The database refuses new profiles from now on."""
        self._query(f"INSERT INTO faults VALUES ('{code}')")

    @rule()
    def remove_faults(self) -> None:
        """The database accepts profiles again."""
        self._query("DELETE FROM faults")

    @rule(
        name=USER_NAMES,
        denial=st.sampled_from(["unpublished", "block", *CHANGES]),
        loss=st.none() | st.sampled_from(["empty", "kill", "restore"]),
        seconds=st.sampled_from([0.0, 4.0, 6.0]),
        process=PROCESS,
    )
    def deny_while_active(
        self, name: str, denial: str, loss: str | None, seconds: float, process: int
    ) -> None:
        """A user with a context in both processes is denied and sends another request."""
        self.sign_in_again(name, 0)
        self.record_access()  # the request may have created a profile
        self.sign_in_again(name, 1)
        self.save_snapshot()
        self._deny(name, denial)
        self.record_access()
        self._lose_cache(loss)
        self.let_time_pass(seconds)
        self.sign_in_again(name, process)

    def _deny(self, name: str, denial: str) -> None:
        """Deny a user; `unpublished` is a change by another program or by a process that dies
        after its commit.
        """
        user_id = self._user_id(name)
        profiles = [m for m, owner_id in self._owned() if owner_id == user_id]
        self.reassigned.update(profiles)
        if denial == "unpublished":
            self.is_unpublished = True
            self._query(BLOCK_UNPUBLISHED.format(user_id or 0))
        elif denial == "block":
            self._admin("POST", f"users/{user_id}/block")
        else:
            method, path, body = CHANGES[denial]
            for mentorado_id in profiles:
                self._admin(method, f"mentorados/{mentorado_id}{path}", body)

    def _lose_cache(self, loss: str | None) -> None:
        if loss == "empty":
            self.empty_cache()
        elif loss == "kill":
            self.kill_redis()
        elif loss == "restore":
            self.restore_snapshot()

    @rule(seconds=STEP_SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        """Some seconds pass, for both apps and for the keys in Redis."""
        self.environment.clock.seconds += seconds
        if self.environment.redis is not None:
            with self.environment.store() as store:
                for key in store.scan_iter():
                    left = int(store.pttl(key)) - int(seconds * 1000)
                    store.pexpire(key, max(left, 0))

    @rule()
    def save_snapshot(self) -> None:
        """Save the keys of Redis, if it runs."""
        if self.environment.redis is None:
            return
        now = self.environment.clock.seconds
        with self.environment.store() as store:
            keys = list(store.scan_iter())
            left = {key: int(store.pttl(key)) / 1000 for key in keys}
            self.snapshot = {key: (store.dump(key), now + left[key]) for key in keys}

    @rule()
    def restore_snapshot(self) -> None:
        """Restore the saved keys, if Redis runs."""
        if self.environment.redis is None:
            return
        self._mark_unpublished()
        with self.environment.store() as store:
            store.flushall()
            for key, (content, expires_at) in self.snapshot.items():
                left = int((expires_at - self.environment.clock.seconds) * 1000)
                if left > 0:
                    store.restore(key, left, content)

    @rule()
    def empty_cache(self) -> None:
        """Redis is emptied, if it runs."""
        self._mark_unpublished()
        if self.environment.redis is not None:
            with self.environment.store() as store:
                store.flushall()

    @rule()
    def kill_redis(self) -> None:
        """Redis is killed."""
        self._mark_unpublished()
        self.environment.kill_redis()

    @precondition(lambda self: self.environment.port is not None and self.environment.redis is None)
    @rule()
    def restart_redis(self) -> None:
        """Redis is started again, empty."""
        self.environment.start_redis()

    # --- invariants ---

    @invariant()
    def every_user_has_at_most_one_profile(self) -> None:
        """A user has at most one profile, a deleted account none."""
        assert (self._query(USERS_WITH_TWO_PROFILES), self._query(DELETED_USERS_WITH_PROFILE)) == (
            [],
            [],
        )

    @invariant()
    def owners_change_only_by_admins_or_verified_addresses(self) -> None:
        """An unlinked profile is linked only to a user who has verified its address now; an owned
        profile keeps its owner.
        """
        rows = self._query(OWNERS)
        before, self.owners = self.owners, {row[0]: row[1] for row in rows}
        reassigned, self.reassigned = self.reassigned, set()
        verified = {mentorado_id for mentorado_id, _, is_verified in rows if is_verified}
        for mentorado_id in before.keys() & self.owners.keys() - reassigned:
            was, is_now = before[mentorado_id], self.owners[mentorado_id]
            assert is_now == was or (was is None and mentorado_id in verified)

    @invariant()
    def no_address_is_registered_twice(self) -> None:
        """No address has two profiles that never had an owner."""
        assert self._query(REGISTERED_TWICE) == []

    @invariant()
    def record_access(self) -> None:
        """Record changed access after each step, for `_check_answer`; not an invariant."""
        is_unpublished, self.is_unpublished = self.is_unpublished, False
        is_published = self.environment.redis is not None and not is_unpublished
        for clerk_id, *access in self._query(ACCESS):
            found = Access(*access)
            if clerk_id not in self.observed or self.observed[clerk_id].access != found:
                self.observed[clerk_id] = ObservedAccess(
                    found, self.environment.clock.seconds, is_published
                )

    def _check_answer(self, user: DevUser, path: str, document: Any) -> None:
        """Check that no answer shows data after a committed denial or change of owner: not at all
        while Redis was available, and not after five seconds otherwise.
        """
        is_admin_request = path.startswith("/api/admin")
        profile = document.get("mentorado", document)
        now = {clerk_id: Access(*access) for clerk_id, *access in self._query(ACCESS)}
        access = now[user.clerk_id]
        if self._may_be_stale(user.clerk_id, access) or not (is_admin_request or profile):
            return
        assert not access.is_denied
        if is_admin_request:
            assert access.is_admin
        else:
            assert (access.mentorado_id, access.is_active) == (profile["id"], True)

    def _may_be_stale(self, clerk_id: str, access: Access) -> bool:
        """Return whether the last change was not published and is newer than the bound."""
        observed = self.observed.get(clerk_id)
        if observed is None or observed.access != access or observed.is_published:
            return False
        return self.environment.clock.seconds - observed.since <= MAX_STALE_SECONDS

    def _send(
        self, user: DevUser, method: str, path: str, body: object = None, *, process: int = 0
    ) -> None:
        headers = {"Authorization": f"Bearer {self._token(user)}"}
        answer = self._client(process).open(path, method=method, json=body, headers=headers)
        assert answer.status_code != 500
        if answer.status_code == 200 and method == "GET":
            self._check_answer(user, path, answer.json)

    def _admin(self, method: str, path: str, body: object = None) -> None:
        self._send(ADMIN, method, f"/api/admin/{path}", body)

    def _page(self, form: dict[str, str]) -> FormReader:
        """Send a form of the admin console; return the forms of the answer."""
        browser = self._client(0)
        browser.set_cookie("__session", self._token(ADMIN))
        answer = browser.post(ENROL, data=form, headers=SAME_ORIGIN)
        assert answer.status_code != 500
        reader = FormReader()
        reader.feed(answer.get_data(as_text=True))
        return reader

    def _client(self, process: int) -> FlaskClient:
        return self.environment.apps[process].test_client()

    @property
    def _services(self) -> Services:
        return cast(Services, self.app.extensions[EXTENSION])

    def _token(self, user: DevUser) -> str:
        assert self._services.dev_provider is not None
        return token(self._services.dev_provider.token, user)

    def _identity(self, user: DevUser) -> Identity:
        return identity_from_claims(self._services.verifier.verify(self._token(user)))

    def _call_ignoring_errors(self, call: Callable[[], object]) -> None:
        """Call; ignore provisioning errors, after which Clerk would send the webhook again."""
        with self.app.app_context():
            try:
                call()
            except ProvisioningError:
                return

    def _reset_caches(self) -> None:
        """Empty all caches, as before the first request."""
        self.empty_cache()
        for app in self.environment.apps:
            with app.app_context():
                contexts = cast(Services, app.extensions[EXTENSION]).provisioning.contexts
                contexts.clear_versions()
                if isinstance(contexts.store, LocalStore):
                    contexts.store.clear()
        self.environment.clock.seconds += 10  # the pause after a failure of the cache ends

    def _mark_unpublished(self) -> None:
        for observed in self.observed.values():
            observed.is_published = False

    def _owned(self) -> list[tuple[int, int]]:
        return [(m, user_id) for m, user_id, _ in self._query(OWNERS) if user_id is not None]

    def _user_id(self, clerk_id: str) -> int | None:
        rows = self._query(f"SELECT id FROM users WHERE clerk_id = '{clerk_id}'")
        return rows[0][0] if rows else None

    def _picked(self, table: str, pick: int) -> list[int]:
        rows = self._rows(table)
        return [rows[pick % len(rows)][0]] if rows else []

    def _rows(self, table: str) -> list[tuple[Any, ...]]:
        return self._query(f"SELECT id FROM {table} ORDER BY id")

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        result = self.environment.database.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


@cached
def token(sign: Callable[[DevUser], str], user: DevUser) -> str:
    """Return a token of the user; signing for each step would take most of the running time."""
    return sign(user)


@pytest.fixture
def machine(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[type[Machine]]:
    """The machine on two apps and one database, with a short time budget for retries."""
    port = free_port() if request.param else None
    settings = {"redis_url": f"redis://127.0.0.1:{port}/0"} if port else {}
    with (
        ExitStack() as exit_stack,
        connect_to(url) as database,
        create_app_on(tmp_path, url, **settings) as first,
        create_app_on(tmp_path, url, **settings) as second,
    ):
        database.exec_driver_sql(CREATE_FAULTS)
        environment = Environment((first, second), database, exit_stack, tmp_path, port)
        environment.stop_clocks()
        environment.limit_retries(0.25)
        yield type("ThisMachine", (Machine,), {"environment": environment})


@pytest.mark.real_time_limits
@pytest.mark.parametrize(
    ("machine", "examples"), [(True, 12), (False, 4)], indirect=["machine"], ids=["redis", "none"]
)
def test_invariants_hold_after_every_step(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
