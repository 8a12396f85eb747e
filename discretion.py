"""What the log must not say: tokens, addresses, names, and what the database quotes of rows."""

import re
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

import psycopg2
from pydantic import ValidationError
from sqlalchemy.exc import StatementError

LONGEST_MESSAGE = 500
# Every character is looked at a bounded number of times: others choose what lines contain.
WORD = re.compile(r"""[^\s"'<>\\]+""")
KEYS = re.compile(r"eyJ[\w-]{10,}[\w.-]*|(?:sk|whsec)_\w{6,}")
MARKS = ("@", "eyJ", "sk_", "whsec_")  # spares nearly every line the search
WITHHELD = "[withheld]"


def withhold(line: str) -> str:
    """The line without what looks like a secret or an address, wherever it came from.

    Withheld are words with an @ inside (an address, a URL with a password before its host), signed
    tokens, and keys of Clerk's.
    """
    return WORD.sub(_withheld, line) if any(mark in line for mark in MARKS) else line


def _withheld(word: re.Match[str]) -> str:
    text = word[0]
    return WITHHELD if "@" in text[1:-1] else KEYS.sub(WITHHELD, text)


def tell_exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info` by where and how it happened, without the values it happened to."""
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = "\n".join(_told(error))
    return event


def _exception(exc_info: object) -> BaseException | None:
    """What structlog and the standard library pass on: an exception, a triple, or just a claim."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return exc_info if isinstance(exc_info, BaseException) else None


def _told(error: BaseException | None) -> Iterator[str]:
    """The chain of causes, the outermost first."""
    while error is not None:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        frames = "".join(traceback.format_tb(error.__traceback__))
        yield f"{kind}: {_message(error)}\n{frames}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _message(error: BaseException) -> str:
    match error:
        case StatementError():
            return ""  # its cause follows
        case psycopg2.Error() if error.pgcode:
            about = (error.diag.table_name, error.diag.column_name, error.diag.constraint_name)
            return " ".join([error.pgcode, *filter(None, about)])
        case ValidationError():
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            return ", ".join(f"{'.'.join(map(str, p['loc']))}: {p['type']}" for p in problems)
        case _:
            return str(error)[:LONGEST_MESSAGE]
