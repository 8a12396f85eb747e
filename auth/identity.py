"""The identity of a user: a frozen value of what the identity provider says, in clean form."""

import re
import unicodedata
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.email_address import INVISIBLE, WHITE_SPACE, find_fault

NAME_LENGTH = 255  # mentorados.nome_completo
URL_LENGTH = 500  # mentorados.foto_url
METHOD_LENGTH = 64  # users.login_method

# Control characters, lone surrogates and noncharacters, which PostgreSQL or terminals cannot take.
UNPRINTABLE = ("Cc", "Cs", "Cn")
# Invisible characters that change how others are displayed: variation selectors after a character,
# and joiners between two characters of certain scripts or two emoji.
SELECTORS, JOINERS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef", "\u200c\u200d"
UNNEEDED = re.compile(f"(?![{SELECTORS}{JOINERS}]){INVISIBLE.pattern}")
STRAY_SELECTOR = re.compile(f"(?<![^\\s{SELECTORS}{JOINERS}])[{SELECTORS}]")
NON_ASCII = f"[^\\x00-\\x7f{JOINERS}]"
STRAY_JOINER = re.compile(f"(?<!{NON_ASCII})[{JOINERS}]|[{JOINERS}](?!{NON_ASCII})")
# Most names, without anything to remove: printable ASCII, and the letters of Latin-1.
PLAIN_NAME = re.compile("[ -~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]*")
WEB_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as the identity provider describes them; None always means «not known».

    `email` is the primary address only. `email_verified` is True only when the provider has
    verified that address; a value without an address means that there is none any longer.
    `is_complete`: the provider has no more data. `as_of` is the provider's time of the data; it is
    not compared, so that all tokens of a user with the same data are equal.
    """

    clerk_id: str
    name: str | None = None
    email: str | None = None
    email_verified: bool | None = None
    image_url: str | None = None
    login_method: str | None = None
    is_complete: bool = False
    as_of: datetime | None = field(default=None, compare=False, repr=False)

    @property
    def is_unknown(self) -> bool:
        """Whether the provider has no user with that id."""
        return self == Identity(self.clerk_id, is_complete=True)

    def merged_with(self, answer: "Identity") -> "Identity":
        """Return this identity updated with an answer of the Backend API, which takes precedence.

        An address and its verification are taken together, never from different identities.
        """
        address_source = answer if answer.email_verified is not None else self
        return replace(
            answer,
            clerk_id=self.clerk_id,
            name=answer.name or self.name,
            email=address_source.email,
            email_verified=address_source.email_verified,
            image_url=answer.image_url or self.image_url,
            login_method=answer.login_method or self.login_method,
        )


def clean_name(value: object) -> str | None:
    """Return a printable name of at most 255 characters, or None; longer ones are cut."""
    name = fold_name(value) if isinstance(value, str) else ""
    return fold_name(name[:NAME_LENGTH]) or None


def fold_name(value: str) -> str:
    """Return the visible text of a name, of any length; blank if there is none.

    White space of any kind and number becomes one blank. Unprintable and invisible characters are
    removed, except where a script or an emoji needs them.
    """
    if PLAIN_NAME.fullmatch(value):
        return " ".join(value.split())
    text = _printable(value)
    for pattern in (UNNEEDED, STRAY_SELECTOR, STRAY_JOINER):
        text = pattern.sub("", text)
    return " ".join(text.split())


def clean_email(value: object) -> str | None:
    """Return the address unchanged, or None if it cannot be verified.

    It is not corrected, because the result may be the address of another user.
    """
    text = value.strip(WHITE_SPACE) if isinstance(value, str) else ""
    return None if find_fault(text) else text


def clean_url(value: object) -> str | None:
    """Return an http(s) URL of at most 500 characters, or None; a cut one would be another URL."""
    text = value.strip() if isinstance(value, str) else ""
    is_plain = len(text) <= URL_LENGTH and text.isascii() and text.isprintable()
    return text if is_plain and WEB_URL.fullmatch(text) else None


def clean_method(value: object) -> str | None:
    """Return the name of the sign-in method, cut to the length of its column."""
    return _printable(value)[:METHOD_LENGTH] or None


def _printable(value: object) -> str:
    if not isinstance(value, str):
        return ""
    kept = (" " if c.isspace() else c for c in value)
    visible = "".join(c for c in kept if unicodedata.category(c) not in UNPRINTABLE)
    return " ".join(visible.split())
