"""Parse Clerk's user documents, from its Backend API and its webhooks, into identities."""

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ValidationError, field_validator

from auth.errors import InvalidTokenError, UnreadableProfileError
from auth.identity import Identity, clean_email, clean_method, clean_name, clean_url
from auth.tokens import checked_subject

MAX_CLOCK_SKEW = timedelta(hours=1)


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
    email = clean_email(primary.email_address)
    return Identity(
        clerk_id=profile.id,
        name=clean_name(_full_name(profile)) or clean_name(profile.username),
        email=email,
        email_verified=email is not None and _is_verified(primary),
        image_url=clean_url(profile.image_url),
        login_method=clean_method(_login_method(profile, primary)),
        is_complete=True,
        as_of=_update_time(profile.updated_at),
    )


def parse_clerk_user_id(document: object) -> str:
    """Return the user id of a document; no other field needs to be valid.

    Raises UnreadableProfileError.
    """
    try:
        return checked_subject(_WithId.model_validate(document).id)
    except (ValidationError, InvalidTokenError) as err:
        raise UnreadableProfileError from err


def _primary_address(profile: _Profile) -> _Address:
    """Return the primary address; an empty one where the document names none."""
    primary_id = profile.primary_email_address_id
    if not primary_id:
        return _Address()
    candidates = [address for address in profile.email_addresses if address.id == primary_id]
    if not candidates:
        raise UnreadableProfileError
    return candidates[0]


def _is_verified(address: _Address) -> bool:
    return address.verification is not None and address.verification.status == "verified"


def _full_name(profile: _Profile) -> str:
    return " ".join(filter(None, (profile.first_name, profile.last_name)))


def _login_method(profile: _Profile, primary: _Address) -> str | None:
    """Return the OAuth provider, such as `google`, or how the address was verified."""
    providers = [a.provider for a in profile.external_accounts if a.provider]
    if providers:
        return providers[0].removeprefix("oauth_")
    return primary.verification.strategy if primary.verification else None


def _update_time(milliseconds: float | None) -> datetime | None:
    """Return the time; None also for a future time, which would outrank all later changes."""
    try:
        moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    is_past = moment < datetime.now(UTC) + MAX_CLOCK_SKEW
    return moment if milliseconds is not None and is_past else None
