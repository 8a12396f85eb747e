"""The frozen value that the guarantee is handed: what is known about who is asking."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from core.email_address import INVISIBLE, WHITE_SPACE, find_fault

NAME_LENGTH = 255  # mentorados.nome_completo
URL_LENGTH = 500  # mentorados.foto_url
METHOD_LENGTH = 64  # users.login_method

# Control characters, lone surrogates and noncharacters: PostgreSQL or a terminal would stumble.
UNPRINTABLE = ("Cc", "Cs", "Cn")
# Invisible characters that change how others are read: variation selectors behind a character, and
# joiners between two characters of certain scripts or two emoji.
SELECTORS, JOINERS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef", "\u200c\u200d"
NEVER_NEEDED = re.compile(f"(?![{SELECTORS}{JOINERS}]){INVISIBLE.pattern}")
LOST_SELECTOR = re.compile(f"(?<![^\\s{SELECTORS}{JOINERS}])[{SELECTORS}]")
OTHER_THAN_ASCII = f"[^\\x00-\\x7f{JOINERS}]"
LOST_JOINER = re.compile(f"(?<!{OTHER_THAN_ASCII})[{JOINERS}]|[{JOINERS}](?!{OTHER_THAN_ASCII})")
WEB_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the identity provider describes them; None always means «not known».

    `email` is the primary address only. `email_verified` is True only when the provider vouches for
    that address; a verdict without an address says that there is none any longer. `is_complete`
    tells that there is nothing more to be learned by asking. `as_of` is the moment of which this
    speaks, by the provider's clock; it is no part of what is said, so that each token of a person
    says the same.
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
        """Whether the provider was asked and knows nobody of that id."""
        return self == Identity(self.clerk_id, is_complete=True)

    def merged_with(self, told: "Identity") -> "Identity":
        """This identity with what the provider has told when it was asked; its word counts more.

        An address and the verdict on it are one word: a verdict never moves to another address.
        """
        word = told if told.email_verified is not None else self
        return Identity(
            self.clerk_id,
            told.name or self.name,
            word.email,
            word.email_verified,
            told.image_url or self.image_url,
            told.login_method or self.login_method,
            told.is_complete,
            told.as_of,
        )


def clean_name(value: object) -> str | None:
    """A printable name of at most 255 characters, or None; over-long ones are cut."""
    name = fold_name(value) if isinstance(value, str) else ""
    return fold_name(name[:NAME_LENGTH]) or None


def fold_name(value: str) -> str:
    """The name as a person reads it, of any length; blank where there is nothing to read.

    White space of any kind and number becomes one blank. What cannot be printed is dropped, and so
    is what cannot be seen, except where a script or an emoji needs it.
    """
    text = _printable(value)
    for lost in (NEVER_NEEDED, LOST_SELECTOR, LOST_JOINER):
        text = lost.sub("", text)
    return " ".join(text.split())


def clean_email(value: object) -> str | None:
    """The address as given, or None if it cannot be verified: corrected, it may be another's."""
    text = value.strip(WHITE_SPACE) if isinstance(value, str) else ""
    return None if find_fault(text) else text


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
