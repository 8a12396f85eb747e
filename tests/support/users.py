"""The cast: who appears in the tests, and when."""

from datetime import UTC, datetime

from auth.identity import Identity
from dev.fake_clerk import Person
from provisioning.audit import Entry

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
AT_THE_DOOR = Entry("page", "req-00000001")

ALICE = Person("user_alice", "Alice Prado", "alice@example.com")  # has a profile
BOB = Person("user_bob", "Bob Lima", "bob@example.com")  # signs in for the first time
CHARLIE = Person("user_charlie", "Charlie Reis", "charlie@example.com")  # may see nothing


def identity(person: Person, *, verified: bool | None = True) -> Identity:
    """What the guarantee is handed when that person is at the door."""
    return Identity(person.clerk_id, person.name, person.email, verified)
