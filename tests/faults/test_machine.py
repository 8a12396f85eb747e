"""Any order of logins, admin changes, commands, sweeps and losses: invariants hold after each step.

Two apps stand for two processes on one database. Their clocks stand still; `let_time_pass` moves
them, together with the times to live in Redis.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache as once
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
from benchmarks.chaos_operations import CONFIRMED, FormReader
from core.cache import LocalStore
from dev.databases import app_on, connect_to
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from dev.servers import Redis, free_port, start_redis
from provisioning.audit import Source
from provisioning.errors import ProvisioningError
from sweep.scheduler import build_sweeper
from tests.support.concurrency import Clock
from tests.support.users import NOW
from web.services import EXTENSION, Services

NAMES = ("ana", "bia", "caio")
LEAVING = "davi"  # the only one whose account is ever deleted: nothing happens to them afterwards
ADMIN = DevUser("dona", "Dona Admin", ADMIN_EMAIL)
WHO = st.sampled_from((*NAMES, LEAVING))
X, X_AGAIN, Y = "x@example.com", "X@Example.com", "y@example.com"
ADDRESS = st.sampled_from([X, X_AGAIN, Y])
PICK = st.integers(0, 3)
PROCESS = st.integers(0, 1)
BOUND_SECONDS = 5.0  # for which a change may go unnoticed where Redis was not well
STEP_SECONDS = st.sampled_from([1.0, 4.0, 6.0])
ENROL = "/admin/mentorados/novos"
OURS = {"Origin": "http://localhost"}

# A fault that refuses every profile: for good, or with a state that could pass.
PREPARED = """
CREATE TABLE faults (code text);
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.user_id IS NOT NULL AND EXISTS (SELECT 1 FROM faults) THEN
        RAISE EXCEPTION 'stumbled' USING ERRCODE = (SELECT min(code) FROM faults);
    END IF; RETURN NEW; END $$;
CREATE TRIGGER stumble BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION stumble();
"""
EMPTIED = """
TRUNCATE users, mentorados, audit_events, sweep_runs, provisioning_attempts, app_settings, faults,
         webhook_messages
RESTART IDENTITY CASCADE
"""
USERS_WITH_TWO = "SELECT user_id FROM mentorados GROUP BY 1 HAVING count(user_id) > 1"
DELETED_WITH_ONE = """
SELECT m.id FROM mentorados AS m JOIN users AS u ON u.id = m.user_id WHERE u.deleted_at IS NOT NULL
"""
# Each profile with its owner, and whether the owner has proven its address now.
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
LEFT_OUT = """
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
OTHERS = "users WHERE clerk_id <> 'dona'"  # whoever an admin may shut out, but for herself
# Changes of a profile that end what its owner may see.
CHANGES = {
    "deactivate": ("PATCH", "", {"ativo": "nao"}),
    "delete": ("DELETE", "", None),
    "unlink": ("POST", "/unlink", None),
}
BLOCK_SILENTLY = "UPDATE users SET blocked_at = now() WHERE id = {}"


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may be shown just now."""

    is_denied: bool
    is_admin: bool
    mentorado_id: int | None
    is_active: bool


@dataclass(slots=True)
class Known:
    """A user's access, since when it has been so, and whether Redis was well all the time since."""

    access: Access
    since: float
    is_announced: bool


@dataclass(slots=True)
class Parts:
    """What a machine works on: two apps, their database, and their Redis if they have one."""

    apps: tuple[Flask, Flask]
    database: Connection
    ends: ExitStack
    folder: Path
    port: int | None
    redis: Redis | None = None
    clock: Clock = field(default_factory=Clock)

    def stop_clocks(self) -> None:
        """Let time pass in both apps only when the machine says so."""
        for app in self.apps:
            with app.app_context():
                contexts = cast(Services, app.extensions[EXTENSION]).provisioning.contexts
                contexts.clock = contexts.client.clock = self.clock
                if isinstance(contexts.client.backend, LocalStore):
                    contexts.client.backend.clock = self.clock

    def start_redis(self) -> None:
        """Start Redis under its address, empty; nothing where it runs or there is to be none."""
        if self.port is not None and self.redis is None:
            self.redis = self.ends.enter_context(start_redis(self.folder, self.port))

    def kill_redis(self) -> None:
        """End Redis with all that it holds."""
        if self.redis is not None:
            self.redis.process.kill()
            self.redis.process.wait()
            self.redis = None

    def store(self) -> client.Redis:
        """A client of Redis."""
        assert self.redis is not None
        return client.Redis.from_url(self.redis.url)


class Machine(RuleBasedStateMachine):
    """Logins, changed identities, admins, commands, sweeps, lost caches and faults."""

    parts: Parts

    def __init__(self) -> None:
        super().__init__()
        self.here = self.parts.apps[0]
        self.last = {name: DevUser(name) for name in (*NAMES, LEAVING)}
        self.owners: dict[int, int | None] = {}
        self.chosen: set[int] = set()  # profiles whose owner this step may change
        self.known: dict[str, Known] = {}
        self.is_silent = False  # whether this step changes something behind the program's back
        self.snapshot: dict[bytes, tuple[bytes, float]] = {}
        self._query(EMPTIED)
        self.parts.start_redis()
        self._forget_everything()

    # --- users and their provider ---

    @rule(who=WHO, email=st.none() | ADDRESS, verified=st.booleans(), process=PROCESS)
    def sign_in(self, who: str, email: str | None, verified: bool, process: int) -> None:
        """A user comes with whatever their provider says of them today."""
        self.last[who] = DevUser(who, who.title(), email, email_verified=verified)
        self._ask(self.last[who], "GET", "/api/auth/me", process=process)

    @rule(who=WHO, process=PROCESS)
    def come_again(self, who: str, process: int) -> None:
        """A user comes back as they were."""
        self._ask(self.last[who], "GET", "/api/mentorados/me", process=process)

    @rule(who=WHO, process=PROCESS)
    def look_at_the_administration(self, who: str, process: int) -> None:
        """A user, who may have been made an admin, opens the admin console."""
        self._ask(self.last[who], "GET", "/api/admin/users", process=process)

    @rule(who=WHO, email=ADDRESS, verified=st.booleans())
    def hear_from_the_provider(self, who: str, email: str, verified: bool) -> None:
        """A message tells of a changed address while the user is away."""
        person = DevUser(who, who.title(), email, email_verified=verified)
        ensure = partial(self._services.provisioning.ensure, source=Source("webhook"), now=NOW)
        self._let_fail(lambda: ensure(self._identity(person)))

    @rule()
    def hear_of_a_deleted_account(self) -> None:
        """A message tells that an account is deleted; its profile loses its owner."""
        self.chosen |= {m for m, user_id in self._owned() if user_id == self._user_id(LEAVING)}
        hear = self._services.provisioning.handle_user_deleted
        identity = Identity(LEAVING)
        message = (f"msg_{len(self._rows('webhook_messages'))}", "user.deleted")
        self._let_fail(lambda: hear(message, identity, source=Source("webhook"), now=NOW))

    # --- admins ---

    @rule(email=ADDRESS)
    def register(self, email: str) -> None:
        """An admin pre-registers an address."""
        self._admin("POST", "mentorados", {"nome_completo": "Esperada", "email": email})

    @rule(emails=st.lists(ADDRESS, min_size=1, max_size=3), times=st.integers(1, 2))
    def import_a_list(self, emails: list[str], times: int) -> None:
        """An admin imports a list; the page that asks for it may be sent twice."""
        lines = ["nome;e-mail", *(f"Da lista;{email}" for email in emails)]
        page = self._page({"lista": "\n".join(lines)})
        for _ in range(times):
            form = next((form for form in page.forms if CONFIRMED in form), None)
            if form is not None:
                self._page(form)

    @rule(pick=PICK, email=st.none() | ADDRESS)
    def change_an_address(self, pick: int, email: str | None) -> None:
        """An admin corrects the address of a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("PATCH", f"mentorados/{mentorado_id}", {"email": email})

    @rule(pick=PICK, ativo=st.sampled_from(["sim", "nao"]))
    def activate(self, pick: int, ativo: str) -> None:
        """An admin takes a profile out of the programme, or back into it."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("PATCH", f"mentorados/{mentorado_id}", {"ativo": ativo})

    @rule(pick=PICK, change=st.sampled_from(["block", "allow", "retry"]))
    def treat(self, pick: int, change: str) -> None:
        """An admin blocks a user, allows them, or tries again to make their profile."""
        for user_id in self._picked(OTHERS, pick):
            self._admin("POST", f"users/{user_id}/{change}")

    @rule(pick=PICK, other=PICK)
    def link(self, pick: int, other: int) -> None:
        """An admin gives a profile to a user."""
        for mentorado_id in self._picked("mentorados", pick):
            for user_id in self._picked(OTHERS, other):
                self.chosen.add(mentorado_id)
                self._admin("POST", f"mentorados/{mentorado_id}/link", {"user_id": user_id})

    @rule(pick=PICK)
    def unlink(self, pick: int) -> None:
        """An admin takes a profile from its owner."""
        for mentorado_id in self._picked("mentorados", pick):
            self.chosen.add(mentorado_id)
            self._admin("POST", f"mentorados/{mentorado_id}/unlink")

    @rule(pick=PICK, other=PICK)
    def merge(self, pick: int, other: int) -> None:
        """An admin merges two profiles."""
        for mentorado_id in self._picked("mentorados", pick):
            for into in self._picked("mentorados", other):
                self.chosen.add(into)
                body = {"into": into, "dry_run": False}
                self._admin("POST", f"mentorados/{mentorado_id}/merge", body)

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        """An admin deletes a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("DELETE", f"mentorados/{mentorado_id}")

    @rule(enabled=st.booleans())
    def turn_the_switch(self, enabled: bool) -> None:
        """An admin stops automatic creation, or lets it go on."""
        self._admin("PUT", "settings/auto-create", {"enabled": enabled})

    # --- commands and the background ---

    @rule(command=st.sampled_from(["grant", "revoke"]), email=ADDRESS, process=PROCESS)
    def change_a_role(self, command: str, email: str, process: int) -> None:
        """A command gives or takes the admin role."""
        app = self.parts.apps[process]
        app.test_cli_runner().invoke(args=["admin", command, email])

    @rule()
    def sweep(self) -> None:
        """A sweep runs, whatever is broken."""
        with self.here.app_context():
            build_sweeper(self._services.provisioning, batch_size=2).start("cli")

    @rule()
    def sweep_when_all_is_well(self) -> None:
        """After a sweep that nothing hinders every user has what only an admin could refuse."""
        self.mend()
        self.turn_the_switch(enabled=True)
        self.sweep()

        assert self._query(LEFT_OUT) == []

    # --- what breaks ---

    @rule(code=st.sampled_from(["23514", "40001"]))
    def break_something(self, code: str) -> None:
        """From now on the database refuses new profiles."""
        self._query(f"INSERT INTO faults VALUES ('{code}')")

    @rule()
    def mend(self) -> None:
        """The fault is gone."""
        self._query("DELETE FROM faults")

    @rule(
        who=WHO,
        denial=st.sampled_from(["silently", "block", *CHANGES]),
        loss=st.none() | st.sampled_from(["empty", "kill", "restore"]),
        seconds=st.sampled_from([0.0, 4.0, 6.0]),
        process=PROCESS,
    )
    def deny_while_active(
        self, who: str, denial: str, loss: str | None, seconds: float, process: int
    ) -> None:
        """A user is active in both processes, is denied, and goes on looking."""
        self.come_again(who, 0)
        self.changes_are_noted()  # who comes back without a profile is given one
        self.come_again(who, 1)
        self.keep_a_snapshot()
        self._deny(who, denial)
        self.changes_are_noted()
        self._lose(loss)
        self.let_time_pass(seconds)
        self.come_again(who, process)

    def _deny(self, who: str, denial: str) -> None:
        """Take a user's access, each way that there is; `silently` stands for another program, and
        for a process that dies after its commit.
        """
        user_id = self._user_id(who)
        profiles = [m for m, owner_id in self._owned() if owner_id == user_id]
        self.chosen.update(profiles)
        if denial == "silently":
            self.is_silent = True
            self._query(BLOCK_SILENTLY.format(user_id or 0))
        elif denial == "block":
            self._admin("POST", f"users/{user_id}/block")
        else:
            method, path, body = CHANGES[denial]
            for mentorado_id in profiles:
                self._admin(method, f"mentorados/{mentorado_id}{path}", body)

    def _lose(self, loss: str | None) -> None:
        if loss == "empty":
            self.empty_the_cache()
        elif loss == "kill":
            self.kill_redis()
        elif loss == "restore":
            self.restore_the_snapshot()

    @rule(seconds=STEP_SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        """Some seconds pass, for both apps and for what Redis holds."""
        self.parts.clock.seconds += seconds
        if self.parts.redis is not None:
            with self.parts.store() as store:
                for key in store.scan_iter():
                    left = int(store.pttl(key)) - int(seconds * 1000)
                    store.pexpire(key, max(left, 0))

    @rule()
    def keep_a_snapshot(self) -> None:
        """Redis saves what it holds, if it is there."""
        if self.parts.redis is None:
            return
        now = self.parts.clock.seconds
        with self.parts.store() as store:
            keys = list(store.scan_iter())
            left = {key: int(store.pttl(key)) / 1000 for key in keys}
            self.snapshot = {key: (store.dump(key), now + left[key]) for key in keys}

    @rule()
    def restore_the_snapshot(self) -> None:
        """Redis, if it is there, comes back with what it saved some time ago."""
        if self.parts.redis is None:
            return
        self._lose_what_was_announced()
        with self.parts.store() as store:
            store.flushall()
            for key, (content, expires_at) in self.snapshot.items():
                left = int((expires_at - self.parts.clock.seconds) * 1000)
                if left > 0:
                    store.restore(key, left, content)

    @rule()
    def empty_the_cache(self) -> None:
        """Somebody empties Redis, or each process loses what it has cached."""
        self._lose_what_was_announced()
        if self.parts.redis is not None:
            with self.parts.store() as store:
                store.flushall()

    @rule()
    def kill_redis(self) -> None:
        """Redis is gone."""
        self._lose_what_was_announced()
        self.parts.kill_redis()

    @precondition(lambda self: self.parts.port is not None and self.parts.redis is None)
    @rule()
    def restart_redis(self) -> None:
        """Redis is back, and empty."""
        self.parts.start_redis()

    # --- what holds ---

    @invariant()
    def every_user_has_one_profile_at_most(self) -> None:
        """At most one for each user, and none for a deleted account."""
        assert (self._query(USERS_WITH_TWO), self._query(DELETED_WITH_ONE)) == ([], [])

    @invariant()
    def only_admins_choose_owners_and_only_proof_wins_what_waits(self) -> None:
        """A profile without owner goes to a user who has proven its address *now*, and to none
        else; a profile with an owner stays with them.
        """
        rows = self._query(OWNERS)
        before, self.owners = self.owners, {row[0]: row[1] for row in rows}
        chosen, self.chosen = self.chosen, set()
        proven = {mentorado_id for mentorado_id, _, is_proven in rows if is_proven}
        for mentorado_id in before.keys() & self.owners.keys() - chosen:
            was, is_now = before[mentorado_id], self.owners[mentorado_id]
            assert is_now == was or (was is None and mentorado_id in proven)

    @invariant()
    def no_address_is_registered_twice(self) -> None:
        """Of profiles that never had an owner."""
        assert self._query(REGISTERED_TWICE) == []

    @invariant()
    def changes_are_noted(self) -> None:
        """No invariant, but what `_check_what_is_shown` goes by: who was changed by this step."""
        silent, self.is_silent = self.is_silent, False
        is_announced = self.parts.redis is not None and not silent
        for clerk_id, *access in self._query(ACCESS):
            found = Access(*access)
            if clerk_id not in self.known or self.known[clerk_id].access != found:
                self.known[clerk_id] = Known(found, self.parts.clock.seconds, is_announced)

    def _check_what_is_shown(self, person: DevUser, path: str, document: Any) -> None:
        """Nobody is served after a committed denial: not for more than five seconds, and not at all
        where Redis was well. The same goes for a profile that has changed hands.
        """
        is_administration = path.startswith("/api/admin")
        profile = document.get("mentorado", document)
        now = {clerk_id: Access(*access) for clerk_id, *access in self._query(ACCESS)}
        access = now[person.clerk_id]
        if self._may_be_stale(person.clerk_id, access) or not (is_administration or profile):
            return
        assert not access.is_denied
        if is_administration:
            assert access.is_admin
        else:
            assert (access.mentorado_id, access.is_active) == (profile["id"], True)

    def _may_be_stale(self, clerk_id: str, access: Access) -> bool:
        """Whether the last change is so new that it may be unnoticed, with Redis not well since."""
        known = self.known.get(clerk_id)
        if known is None or known.access != access or known.is_announced:
            return False
        return self.parts.clock.seconds - known.since <= BOUND_SECONDS

    def _ask(
        self, person: DevUser, method: str, path: str, body: object = None, *, process: int = 0
    ) -> None:
        headers = {"Authorization": f"Bearer {self._token(person)}"}
        answer = self._client(process).open(path, method=method, json=body, headers=headers)
        assert answer.status_code != 500
        if answer.status_code == 200 and method == "GET":
            self._check_what_is_shown(person, path, answer.json)

    def _admin(self, method: str, path: str, body: object = None) -> None:
        self._ask(ADMIN, method, f"/api/admin/{path}", body)

    def _page(self, form: dict[str, str]) -> FormReader:
        """Send a form of the admin console; what its answer can be confirmed with."""
        browser = self._client(0)
        browser.set_cookie("__session", self._token(ADMIN))
        answer = browser.post(ENROL, data=form, headers=OURS)
        assert answer.status_code != 500
        reader = FormReader()
        reader.feed(answer.get_data(as_text=True))
        return reader

    def _client(self, process: int) -> FlaskClient:
        return self.parts.apps[process].test_client()

    @property
    def _services(self) -> Services:
        return cast(Services, self.here.extensions[EXTENSION])

    def _token(self, person: DevUser) -> str:
        assert self._services.dev_provider is not None
        return token(self._services.dev_provider.token, person)

    def _identity(self, person: DevUser) -> Identity:
        return identity_from_claims(self._services.verifier.verify(self._token(person)))

    def _let_fail(self, call: Callable[[], object]) -> None:
        """A message that could not be applied would be sent again."""
        with self.here.app_context():
            try:
                call()
            except ProvisioningError:
                return

    def _forget_everything(self) -> None:
        """Empty every cache, as before the first request."""
        self.empty_the_cache()
        for app in self.parts.apps:
            with app.app_context():
                contexts = cast(Services, app.extensions[EXTENSION]).provisioning.contexts
                contexts.forget_versions()
                if isinstance(contexts.client.backend, LocalStore):
                    contexts.client.backend.clear()
        self.parts.clock.seconds += 10  # a cache that has just failed is asked again

    def _lose_what_was_announced(self) -> None:
        for known in self.known.values():
            known.is_announced = False

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
        result = self.parts.database.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


@once
def token(sign: Callable[[DevUser], str], person: DevUser) -> str:
    """A token of that person; signing anew for every step would take most of the time."""
    return sign(person)


@pytest.fixture
def machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[type[Machine]]:
    """The machine on two apps and a database of its own, with little patience for faults."""
    monkeypatch.setattr("provisioning.retry.REQUEST_BUDGET_SECONDS", 0.25)
    port = free_port() if request.param else None
    settings = {"redis_url": f"redis://127.0.0.1:{port}/0"} if port else {}
    with (
        ExitStack() as ends,
        connect_to(url) as database,
        app_on(tmp_path, url, **settings) as here,
        app_on(tmp_path, url, **settings) as there,
    ):
        database.exec_driver_sql(PREPARED)
        parts = Parts((here, there), database, ends, tmp_path, port)
        parts.stop_clocks()
        yield type("ThisMachine", (Machine,), {"parts": parts})


@pytest.mark.parametrize(
    ("machine", "examples"), [(True, 30), (False, 10)], indirect=["machine"], ids=["redis", "none"]
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
