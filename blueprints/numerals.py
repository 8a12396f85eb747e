"""Reading numbers as people in Brazil write them, where they mean a whole one."""

import re

LONGEST = 40
# A minus as it is typed, or as word processors replace it: hyphens, an en dash, a minus sign.
MINUS = r"[-\u2010-\u2013\u2212\ufe63\uff0d]"
# The sign stands before or after the currency, never on both sides.
NUMERAL = re.compile(
    rf"(?P<sign>(?:{MINUS} ?)?(?:R\$ ?)?|R\$ ?{MINUS} ?)"
    r"(?P<whole>\d{1,3}(?:\.\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:,(?P<cents>\d{1,2}))?",
    re.ASCII,
)


class NumeralError(ValueError):
    """A text that is no whole number; `kind` is `numeral`, or `cents` for a fraction."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def whole_number(text: str) -> int:
    """«R$ 12.500,00», «12 500» and «12500» are 12500; a point stands before thousands only.

    «-500», «R$ -500» and «-R$ 500» are -500.

    Raises NumeralError for anything else, also for «1,000», which means one thing in Brazil and
    another elsewhere.
    """
    plain = " ".join(text.split())
    match = NUMERAL.fullmatch(plain) if len(plain) <= LONGEST else None
    if match is None:
        raise NumeralError("numeral")
    if int(match["cents"] or 0):
        raise NumeralError("cents")
    digits = match["whole"].replace(".", "").replace(" ", "")
    return -int(digits) if re.search(MINUS, match["sign"]) else int(digits)
