"""The cast: who appears in the tests, and when."""

from datetime import UTC, datetime

from auth.identity import Identity
from dev.fake_clerk import DevUser
from provisioning.audit import Source

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PAGE = Source("page", "req-00000001")

ALICE = DevUser("user_alice", "Alice Prado", "alice@example.com")  # has a profile
BOB = DevUser("user_bob", "Bob Lima", "bob@example.com")  # signs in for the first time
CHARLIE = DevUser("user_charlie", "Charlie Reis", "charlie@example.com")  # may see nothing


def identity_of(person: DevUser, *, verified: bool | None = True) -> Identity:
    """What the guarantee is handed when that person is at the door."""
    return Identity(person.clerk_id, person.name, person.email, verified)
