"""Clerk's user documents, and its signed webhook messages about users: read them as identities."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ValidationError, field_validator
from standardwebhooks import Webhook, WebhookVerificationError

from auth.errors import InvalidSignatureError, InvalidTokenError, UnreadableProfileError
from auth.identity import Identity, clean_email, clean_method, clean_name, clean_url
from auth.tokens import checked_subject, is_too_deep

MAX_CLOCK_SKEW = timedelta(hours=1)
DELETION = "user.deleted"
USER_EVENTS = ("user.created", "user.updated", DELETION)


class _WithId(BaseModel):
    id: str


class _Verification(BaseModel):
    status: str | None = None
    strategy: str | None = None


class _Address(BaseModel):
    id: str | None = None
    email_address: str | None = None
    verification: _Verification | None = None


class _Account(BaseModel):
    provider: str | None = None


class _Profile(_WithId):
    """The fields of a user document that the program reads; others are ignored."""

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    image_url: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: list[_Address] = []
    external_accounts: list[_Account] = []
    updated_at: int | float | None = None  # milliseconds since 1970

    @field_validator("email_addresses", "external_accounts", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return value or []


def parse_clerk_user(document: object) -> Identity:
    """Return the complete identity that a user document describes.

    Only the primary address counts, and only a verification of status `verified` proves it
    (docs/reference/contract.md#who-is-asking). Raises UnreadableProfileError for a document that is
    not a user, and for one whose primary address is named but missing. Reading it as «none» would
    remove a verified address.
    """
    try:
        profile = _Profile.model_validate(document)
        checked_subject(profile.id)
    except (ValidationError, InvalidTokenError) as err:
        raise UnreadableProfileError from err
    primary = _primary_address(profile)
    verification = primary.verification or _Verification()
    email = clean_email(primary.email_address)
    full_name = " ".join(filter(None, (profile.first_name, profile.last_name)))
    # The OAuth provider, such as `google`, or how the address was verified.
    providers = [account.provider for account in profile.external_accounts if account.provider]
    method = providers[0].removeprefix("oauth_") if providers else verification.strategy
    return Identity(
        clerk_id=profile.id,
        name=clean_name(full_name) or clean_name(profile.username),
        email=email,
        email_verified=email is not None and verification.status == "verified",
        image_url=clean_url(profile.image_url),
        login_method=clean_method(method),
        is_complete=True,
        as_of=_update_time(profile.updated_at),
    )


def parse_clerk_user_id(document: object) -> str:
    """Return the user id of a document, also if other fields are invalid; raises as above."""
    try:
        return checked_subject(_WithId.model_validate(document).id)
    except (ValidationError, InvalidTokenError) as err:
        raise UnreadableProfileError from err


def _primary_address(profile: _Profile) -> _Address:
    """Return the primary address; an empty one where the document names none."""
    primary_id = profile.primary_email_address_id
    if not primary_id:
        return _Address()
    for address in profile.email_addresses:
        if address.id == primary_id:
            return address
    raise UnreadableProfileError


def _update_time(milliseconds: float | None) -> datetime | None:
    """Return the time; None also for a future time, which would outrank all later changes."""
    try:
        moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    is_past = moment < datetime.now(UTC) + MAX_CLOCK_SKEW
    return moment if milliseconds is not None and is_past else None


@dataclass(frozen=True, slots=True)
class VerifiedMessage:
    """A message with a valid signature; `identity` is None where it concerns no user."""

    id: str
    event: str
    identity: Identity | None = None

    @property
    def is_deletion(self) -> bool:
        """Whether the account was deleted."""
        return self.event == DELETION


def read_message(secret: str, headers: Mapping[str, str], body: bytes) -> VerifiedMessage:
    """Verify signature and time (within five minutes), and read; raises InvalidSignatureError."""
    signed_headers = _standard_headers(headers)
    try:
        document = Webhook(secret).verify(body, signed_headers)
    except (WebhookVerificationError, ValueError, OverflowError, RecursionError) as err:
        raise InvalidSignatureError(type(err).__name__) from err
    if is_too_deep(document):
        raise InvalidSignatureError("nested too deep")
    event = document.get("type") if isinstance(document, dict) else None
    if not isinstance(event, str):
        return VerifiedMessage(signed_headers["webhook-id"], "unknown")
    identity = _identity(event, document.get("data"))
    return VerifiedMessage(signed_headers["webhook-id"], event, identity)


def _standard_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the signature headers by their standard names; Svix, Clerk's sender, has others."""
    sent = {name.lower(): value for name, value in headers.items()}
    return {
        f"webhook-{part}": sent.get(f"svix-{part}") or sent.get(f"webhook-{part}", "")
        for part in ("id", "timestamp", "signature")
    }


def _identity(event: str, data: object) -> Identity | None:
    """Return the identity of the user in the message; None where it concerns no user.

    Of an unreadable user only the id is returned: enough for a deletion, and after a change the
    user can be looked up.
    """
    if event not in USER_EVENTS:
        return None
    with suppress(UnreadableProfileError):
        return parse_clerk_user(data)
    with suppress(UnreadableProfileError):
        return Identity(parse_clerk_user_id(data))
    return None
