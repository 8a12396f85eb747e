"""The frozen value that the guarantee is handed: what is known about who is asking."""

import re
import unicodedata
from dataclasses import dataclass

NAME_LENGTH = 255  # mentorados.nome_completo
EMAIL_LENGTH = 320  # users.email, mentorados.email
URL_LENGTH = 500  # mentorados.foto_url
METHOD_LENGTH = 64  # users.login_method

# Control characters, lone surrogates and noncharacters: PostgreSQL or a terminal would stumble.
UNPRINTABLE = ("Cc", "Cs", "Cn")
ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")
WEB_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the identity provider describes them; None always means «not known».

    `email` is the primary address only. `email_verified` is True only when the provider vouches for
    that address. `listed_admin` tells whether the verified address stands in ADMIN_EMAILS.
    """

    clerk_id: str
    name: str | None = None
    email: str | None = None
    email_verified: bool | None = None
    image_url: str | None = None
    login_method: str | None = None
    listed_admin: bool | None = None


def clean_name(value: object) -> str | None:
    """A printable name of at most 255 characters, or None; over-long ones are cut."""
    return _printable(value)[:NAME_LENGTH].strip() or None


def clean_email(value: object) -> str | None:
    """The address as given, or None: one that is cut or mended would be somebody else's."""
    text = value.strip() if isinstance(value, str) else ""
    is_whole = len(text) <= EMAIL_LENGTH and text == _printable(text)
    return text if is_whole and ADDRESS.fullmatch(text) else None


def clean_url(value: object) -> str | None:
    """An http(s) address of at most 500 characters, or None: a cut one would lead elsewhere."""
    text = value.strip() if isinstance(value, str) else ""
    is_plain = len(text) <= URL_LENGTH and text.isascii() and text.isprintable()
    return text if is_plain and WEB_ADDRESS.fullmatch(text) else None


def clean_method(value: object) -> str | None:
    """The name of the sign-in method, cut to its column."""
    return _printable(value)[:METHOD_LENGTH] or None


def _printable(value: object) -> str:
    if not isinstance(value, str):
        return ""
    kept = (" " if c.isspace() else c for c in value)
    visible = "".join(c for c in kept if unicodedata.category(c) not in UNPRINTABLE)
    return " ".join(visible.split())
