"""E-mail addresses: the key by which they are compared, and faults that rule out verification."""

import enum
import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

import idna

from core.unicode_13 import ASSIGNED

LONGEST_ADDRESS = 320  # characters, of users.email and mentorados.email
LONGEST_LABEL = 63  # octets, RFC 1035 section 2.3.4
# White space that is not part of an address. SQL trims the same (migration 0016).
WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
TO_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
# Greek question mark, Greek grave accent, Kelvin sign: NFC would make `;`, a grave and `K` of them.
BECOMES_ASCII = frozenset("\u037e\u1fef\u212a")
_RANGES = [each.split("-") for each in ASSIGNED.split()]
_FIRST, _LAST = ([int(ends[i], 16) for ends in _RANGES] for i in (0, -1))

SCHEME = "mailto:"
# Most addresses, which need no further check; shorter than a label may be.
PLAIN = re.compile(r"[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+)*@(?:[A-Za-z0-9]+\.)+[A-Za-z0-9]+")
# Not allowed outside of quotes (RFC 5322 section 3.2.3), and their full-width forms.
FORBIDDEN = frozenset('"(),:;<>[\\]＜＞')
IN_DOMAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")  # of ASCII
# Punctuation that IDNA 2008 allows inside of some words (RFC 5892 appendix A).
IN_WORDS = frozenset("·׳״・")
# Default_Ignorable_Code_Point of Unicode, and other characters without a visible glyph.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class FaultKind(enum.StrEnum):
    """Why an address cannot be verified; the value completes a sentence about it."""

    INCOMPLETE = "is not an e-mail address"
    TOO_LONG = "is longer than 320 characters"
    SCHEME = "begins with mailto:"
    CONTROL = "has a control character"
    INVISIBLE = "has an invisible character"
    WHITE_SPACE = "has white space inside"
    FORBIDDEN = "has a character that no address has"
    END = "ends with punctuation"
    SEVERAL_AT = "has more than one @"
    DOMAIN = "has an incomplete domain"


@dataclass(frozen=True, slots=True)
class AddressFault:
    """What is wrong with an address, and the first wrong character; blank if there is none."""

    kind: FaultKind
    character: str = ""

    @property
    def code_point(self) -> str:
        """The character as U+200B, blank if there is none."""
        return code_point(self.character) if self.character else ""

    def __str__(self) -> str:
        """The fault for operators, as in «has an invisible character (U+200B)»."""
        return f"{self.kind} ({self.code_point})" if self.character else str(self.kind)


def code_point(character: str) -> str:
    """Return the code point of a character in Unicode's notation, as U+200B."""
    return f"U+{ord(character):04X}"


def normalize_address(text: str) -> str | None:
    """Return the key of an address; two addresses are the same when their keys are equal.

    Returns None for a blank address. The SQL function `normalized_address` (migration 0016) returns
    the same for every text, under any locale:

    1. White space around the address is dropped.
    2. Local part and domain are composed (NFC). A part is not composed if it contains a character
       that NFC would turn into ASCII, or one that is not assigned in Unicode 13: its composition
       would depend on the Unicode version.
    3. ASCII letters become lower case, and no others.
    4. A domain is replaced by its A-labels (IDNA 2008). A domain without them is not changed.
    """
    address = text.strip(WHITE_SPACE)
    if address.isascii():
        return address.lower() or None
    local, at, domain = address.rpartition("@")
    return f"{_compose(local)}{at}{_domain_key(_compose(domain))}"


def find_fault(text: str) -> AddressFault | None:
    """Return why an address cannot be verified by any user; None if it can.

    White space around it is ignored.
    """
    address = text.strip(WHITE_SPACE)
    if len(address) < LONGEST_LABEL and PLAIN.fullmatch(address):
        return None
    if len(address) > LONGEST_ADDRESS:
        return AddressFault(FaultKind.TOO_LONG)
    if address[: len(SCHEME)].lower() == SCHEME:
        return AddressFault(FaultKind.SCHEME)
    local, _, domain = address.rpartition("@")
    if not (local and domain):
        return AddressFault(FaultKind.INCOMPLETE)
    return (
        _fault_of_ends(address) or _fault_of_characters(local, domain) or _fault_of_domain(domain)
    )


def _compose(part: str) -> str:
    composed = unicodedata.normalize("NFC", part) if _has_stable_composition(part) else part
    return composed.translate(TO_LOWER)


def _has_stable_composition(text: str) -> bool:
    """Whether the composition of this text is the same in every version since Unicode 13."""
    return BECOMES_ASCII.isdisjoint(text) and all(map(_is_assigned, text))


def _is_assigned(character: str) -> bool:
    point = ord(character)
    return point < 0x80 or point <= _LAST[bisect_right(_FIRST, point) - 1]


def _domain_key(domain: str) -> str:
    if domain.isascii() or not _has_stable_composition(domain):
        return domain
    try:
        encoded = idna.encode(domain, strict=True).decode("ascii")
        # Decoded again, because the domain may have contained A-labels.
        is_stable = _has_stable_composition(idna.decode(encoded, strict=True))
    except UnicodeError:
        return domain
    return encoded if is_stable else domain


def _fault_of_ends(address: str) -> AddressFault | None:
    """Return the fault of an address that was copied with punctuation around it."""
    first, last = address[0], address[-1]
    if unicodedata.category(last).startswith("P"):
        return AddressFault(FaultKind.END, last)
    return AddressFault(FaultKind.FORBIDDEN, first) if first == "'" else None


def _fault_of_characters(local: str, domain: str) -> AddressFault | None:
    for character in f"{local}@{domain}":
        if (kind := _kind_of(character)) is not None:
            return AddressFault(kind, character)
    if "@" in local:
        return AddressFault(FaultKind.SEVERAL_AT)
    for character in domain:
        if character.isascii() and character.lower() not in IN_DOMAIN:
            return AddressFault(FaultKind.FORBIDDEN, character)
    return None


def _kind_of(character: str) -> FaultKind | None:
    category = unicodedata.category(character)
    if character in WHITE_SPACE or category.startswith("Z"):
        is_control = character < " " and character not in "\t\n\v\f\r"
        return FaultKind.CONTROL if is_control else FaultKind.WHITE_SPACE
    if INVISIBLE.match(character) or category == "Cf":
        return FaultKind.INVISIBLE
    if category.startswith("C"):  # control, surrogate, private use, unassigned
        return FaultKind.CONTROL
    is_punctuation = category.startswith("P") and not character.isascii()
    is_forbidden = is_punctuation and character not in IN_WORDS
    return FaultKind.FORBIDDEN if is_forbidden or character in FORBIDDEN else None


def _fault_of_domain(domain: str) -> AddressFault | None:
    labels = domain.split(".")
    is_whole = len(labels) > 1 and all(
        0 < len(label) <= LONGEST_LABEL and "-" not in (label[0], label[-1]) for label in labels
    )
    return None if is_whole else AddressFault(FaultKind.DOMAIN)
