"""Users, times, sources and failed attempts of the tests."""

from datetime import UTC, datetime

from auth.identity import Identity
from dev.fake_clerk import DevUser
from models import ProvisioningAttempt
from provisioning.audit import Source

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PAGE = Source("page", "req-00000001")

ALICE = DevUser("user_alice", "Alice Prado", "alice@example.com")  # has a profile
BOB = DevUser("user_bob", "Bob Lima", "bob@example.com")  # signs in for the first time
# has no rights unless a test grants them
CHARLIE = DevUser("user_charlie", "Charlie Reis", "charlie@example.com")


def identity_of(user: DevUser, *, verified: bool | None = True) -> Identity:
    """The identity of a user for an ensure call."""
    return Identity(user.clerk_id, user.name, user.email, verified)


def failed_attempt(
    clerk_id: str, state: str = "dead", at: datetime = NOW, **columns: object
) -> ProvisioningAttempt:
    """A failed attempt of a user, which was due at once."""
    times = dict.fromkeys(("first_failed_at", "last_failed_at", "next_attempt_at"), at)
    values = {"attempts": 8, "error_class": "IntegrityError", **times, **columns}
    return ProvisioningAttempt(clerk_id=clerk_id, state=state, **values)
