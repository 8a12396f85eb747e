"""Who a verified token speaks of, in the guarantee's terms."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from identity.tokens import REMEMBERED, SessionClaims
from provisioning.identity import Identity, clean_email, clean_name, clean_url


@lru_cache(REMEMBERED)
def identity_of(claims: SessionClaims) -> Identity:
    """Read the optional claims; whatever is missing or unusable is «not known».

    Only the boolean `true` verifies an address (CONTRACT section 3): `"true"`, `1` and the like are
    an address that is known not to be verified. A token with a name, an address and a verdict on it
    spares the question to the Backend API.
    """
    values = claims.values
    name, email = clean_name(values.get("name")), clean_email(values.get("email"))
    is_verified = _verdict(values) if email else None
    return Identity(
        clerk_id=claims.subject,
        name=name,
        email=email,
        email_verified=is_verified,
        image_url=clean_url(values.get("image_url")),
        is_complete=None not in (name, email, is_verified),
        as_of=_issued_at(values),
    )


def _verdict(values: Mapping[str, Any]) -> bool | None:
    return values["email_verified"] is True if "email_verified" in values else None


def _issued_at(values: Mapping[str, Any]) -> datetime | None:
    """When the token was written, by the issuer's clock."""
    issued_at = values.get("iat")
    return datetime.fromtimestamp(issued_at, UTC) if isinstance(issued_at, int | float) else None
