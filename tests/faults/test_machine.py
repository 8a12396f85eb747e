"""Whatever happens in whatever order: the invariants hold after every single step."""

from collections.abc import Callable, Iterator
from functools import cache as once
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.engine import Connection

from extensions import cache
from house import EXTENSION, House
from identity.local import ADMIN_EMAIL, Person
from identity.people import identity_of
from provisioning.audit import Entry
from provisioning.errors import ProvisioningError
from provisioning.identity import Identity
from scheduler import build_sweeper
from tests.cast import NOW
from tests.databases import app_on, opened

NAMES = ("ana", "bia", "caio")
ADMIN = Person("dona", "Dona Admin", ADMIN_EMAIL)
WHO = st.sampled_from(NAMES)
ADDRESS = st.sampled_from(["x@example.com", "X@Example.com", "y@example.com"])
PICK = st.integers(0, 3)

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
TRUNCATE users, mentorados, audit_events, sweep_runs, provisioning_attempts, app_settings, faults
RESTART IDENTITY CASCADE
"""
PEOPLE_WITH_TWO = "SELECT user_id FROM mentorados GROUP BY 1 HAVING count(user_id) > 1"
OWNERS = "SELECT id, user_id FROM mentorados"
PROVEN = "SELECT id FROM users WHERE email_verified"
LEFT_OUT = """
SELECT clerk_id FROM users AS u
 WHERE role = 'user' AND blocked_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM mentorados AS m WHERE m.user_id = u.id)
   AND NOT EXISTS (SELECT 1 FROM provisioning_attempts AS a
                    WHERE a.clerk_id = u.clerk_id AND a.state = 'dead')
"""
STORED = """
SELECT u.clerk_id, u.role::text, u.blocked_at IS NULL, m.id
  FROM users AS u JOIN mentorados AS m ON m.user_id = u.id
"""


class Programme(RuleBasedStateMachine):
    """Logins, changed identities, admins, sweeps, lost caches and faults."""

    app: Flask
    database: Connection

    def __init__(self) -> None:
        super().__init__()
        self.house: House = self.app.extensions[EXTENSION]
        self.client = self.app.test_client()
        self.last = {name: Person(name) for name in NAMES}
        self.owners: dict[int, int | None] = {}
        self.is_admins_step = False
        self._query(EMPTIED)
        cache.clear()

    @rule(who=WHO, email=st.none() | ADDRESS, verified=st.booleans())
    def sign_in(self, who: str, email: str | None, verified: bool) -> None:
        """Somebody comes, with whatever their provider says of them today."""
        self.last[who] = Person(who, who.title(), email, email_verified=verified)
        self._ask(self.last[who], "GET", "/api/auth/me")

    @rule(who=WHO)
    def come_again(self, who: str) -> None:
        """Somebody comes back, as they were."""
        self._ask(self.last[who], "GET", "/api/mentorados/me/overview")

    @rule(who=WHO, email=ADDRESS, verified=st.booleans())
    def hear_from_the_provider(self, who: str, email: str, verified: bool) -> None:
        """An event tells of a changed address while the person is away."""
        person = Person(who, who.title(), email, email_verified=verified)
        try:
            self.house.guarantee.ensure(self._identity(person), entry=Entry("webhook"), now=NOW)
        except ProvisioningError:
            return

    @rule(email=ADDRESS)
    def register(self, email: str) -> None:
        """The team expects somebody."""
        self._admin("POST", "mentorados", {"nome_completo": "Esperada", "email": email})

    @rule(pick=PICK, change=st.sampled_from(["block", "allow", "retry"]))
    def treat_somebody(self, pick: int, change: str) -> None:
        """An admin shuts somebody out, lets them in, or tries again."""
        for user_id in self._picked("users", pick):
            self._admin("POST", f"users/{user_id}/{change}")

    @rule(pick=PICK, other=PICK)
    def link(self, pick: int, other: int) -> None:
        """An admin gives a profile to somebody."""
        for mentorado_id in self._picked("mentorados", pick):
            for user_id in self._picked("users", other):
                self._admin("POST", f"mentorados/{mentorado_id}/link", {"user_id": user_id})

    @rule(pick=PICK)
    def unlink(self, pick: int) -> None:
        """An admin takes a profile out of its owner's hands."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("POST", f"mentorados/{mentorado_id}/unlink")

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        """An admin deletes a profile."""
        for mentorado_id in self._picked("mentorados", pick):
            self._admin("DELETE", f"mentorados/{mentorado_id}")

    @rule(enabled=st.booleans())
    def turn_the_switch(self, enabled: bool) -> None:
        """An admin stops automatic creation, or lets it go on."""
        self._admin("PUT", "settings/auto-create", {"enabled": enabled})

    @rule(code=st.sampled_from(["23514", "40001"]))
    def break_something(self, code: str) -> None:
        """From now on the database refuses new profiles."""
        self._query(f"INSERT INTO faults VALUES ('{code}')")

    @rule()
    def mend(self) -> None:
        """The fault is gone."""
        self._query("DELETE FROM faults")

    @rule()
    def lose_the_cache(self) -> None:
        """Redis is restarted, say."""
        cache.clear()

    @rule()
    def sweep(self) -> None:
        """Somebody sweeps, whatever is broken."""
        build_sweeper(self.house.guarantee, batch_size=2).start("cli")

    @rule()
    def sweep_when_all_is_well(self) -> None:
        """After a sweep that nothing hinders nobody is left out whom only a human may help."""
        self.mend()
        self.turn_the_switch(enabled=True)
        self.sweep()

        assert self._query(LEFT_OUT) == []

    @invariant()
    def nobody_has_two_profiles(self) -> None:
        """At most one for each person."""
        assert self._query(PEOPLE_WITH_TWO) == []

    @invariant()
    def only_admins_move_what_is_owned_and_only_proof_wins_what_waits(self) -> None:
        """No owner changes by itself, and nothing is linked by an address that is not proven."""
        before, self.owners = self.owners, dict(self._query(OWNERS))
        is_admins_step, self.is_admins_step = self.is_admins_step, False
        proven = {user_id for (user_id,) in self._query(PROVEN)}
        for mentorado_id in before.keys() & self.owners.keys():
            was, now_is = before[mentorado_id], self.owners[mentorado_id]
            assert is_admins_step or now_is == was or (was is None and now_is in proven)

    @invariant()
    def cache_says_what_is_stored(self) -> None:
        """A context that would be believed just now is the truth."""
        stored = {row[0]: tuple(row[1:]) for row in self._query(STORED)}
        for who, person in self.last.items():
            context = self.house.guarantee.contexts.get(self._identity(person))
            if context is not None and context.mentorado is not None:
                told = (context.user["role"], True, context.mentorado["id"])
                assert told == stored[who]

    def _ask(self, person: Person, method: str, path: str, body: object = None) -> None:
        headers = {"Authorization": f"Bearer {self._token(person)}"}
        answer = self.client.open(path, method=method, json=body, headers=headers)
        assert answer.status_code != 500

    def _admin(self, method: str, path: str, body: object = None) -> None:
        self.is_admins_step = True
        self._ask(ADMIN, method, f"/api/admin/{path}", body)

    def _token(self, person: Person) -> str:
        assert self.house.local is not None
        return token(self.house.local.token, person)

    def _identity(self, person: Person) -> Identity:
        claims = self.house.verifier.verify(self._token(person))
        return identity_of(claims)

    def _picked(self, table: str, pick: int) -> list[int]:
        rows = self._query(f"SELECT id FROM {table} ORDER BY id")
        return [rows[pick % len(rows)][0]] if rows else []

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        result = self.database.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


@once
def token(sign: Callable[[Person], str], person: Person) -> str:
    """A token of that person; signing anew for every step would take most of the time."""
    return sign(person)


@pytest.fixture
def programme(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[Programme]]:
    """The machine on an app and a database of its own, and with little patience for faults."""
    monkeypatch.setattr("perseverance.REQUEST_BUDGET_SECONDS", 0.25)
    with opened(url) as database, app_on(tmp_path, url) as app:
        database.exec_driver_sql(PREPARED)
        yield type("ThisProgramme", (Programme,), {"app": app, "database": database})


def test_invariants_hold_after_every_step(programme: type[Programme]) -> None:
    run_state_machine_as_test(
        programme,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
