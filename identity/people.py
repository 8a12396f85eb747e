"""Who a verified token speaks of, in the guarantee's terms."""

from collections.abc import Mapping
from typing import Any

from identity.tokens import SessionClaims
from provisioning.identity import Identity, clean_email, clean_name, clean_url


def identity_of(claims: SessionClaims, admin_emails: frozenset[str]) -> Identity:
    """Read the optional claims; whatever is missing or unusable is «not known».

    Only the boolean `true` verifies an address (CONTRACT section 3): `"true"`, `1` and the like are
    an address that is known not to be verified.
    """
    values = claims.values
    email = clean_email(values.get("email"))
    is_verified = _verdict(values) if email else None
    return Identity(
        clerk_id=claims.subject,
        name=clean_name(values.get("name")),
        email=email,
        email_verified=is_verified,
        image_url=clean_url(values.get("image_url")),
        listed_admin=_is_listed(email, admin_emails, is_verified=is_verified),
    )


def _verdict(values: Mapping[str, Any]) -> bool | None:
    return values["email_verified"] is True if "email_verified" in values else None


def _is_listed(
    email: str | None, admin_emails: frozenset[str], *, is_verified: bool | None
) -> bool | None:
    if email is None or is_verified is None:
        return None
    return is_verified and email.lower() in admin_emails
