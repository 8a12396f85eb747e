"""Write the character tables for the comparison of e-mail addresses, in Python and in SQL.

Usage: `python -m scripts.address_tables DerivedAge.txt`, with the file of that name from
https://www.unicode.org/Public/UCD/latest/ucd/. The result depends on it, on the installed `idna`
and, for the classes of marks and directions, on the Unicode data of this Python. See
docs/decisions/019-e-mail-addresses.md. A migration's table is never written again: a new table
needs a new migration.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import wrap

from idna import idnadata

PROJECT = Path(__file__).resolve().parent.parent
PYTHON_TABLE = PROJECT / "core" / "unicode_13.py"
SQL_TABLES = PROJECT / "migrations" / "address_tables.py"
UNICODE = (13, 0)  # of PostgreSQL 14, the oldest that is supported
SURROGATES = range(0xD800, 0xE000)
VIRAMA = 9  # canonical combining class
WIDTH = 90
HEAD = '"""{}; written by scripts/address_tables.py."""\n\n'
NEUTRAL = ("ES", "CS", "ET", "ON", "BN")


def assigned(lines: Iterable[str]) -> set[int]:
    """Return the code points that Unicode 13 has assigned, from the lines of DerivedAge.txt."""
    found: set[int] = set()
    for line in lines:
        points, _, age = line.partition("#")[0].partition(";")
        if age.strip() and tuple(map(int, age.strip().split("."))) <= UNICODE:
            first, _, last = points.strip().partition("..")
            found.update(range(int(first, 16), int(last or first, 16) + 1))
    return {
        point
        for point in found.difference(SURROGATES)
        if unicodedata.category(chr(point)) != "Cn"  # noncharacters have an age as well
    }


def idna_points(ranges: Iterable[int]) -> set[int]:
    """Return the code points of ranges of the package `idna`: first << 32 | last + 1."""
    return {point for each in ranges for point in range(each >> 32, each & 0xFFFFFFFF)}


def sql_tables(known: set[int]) -> dict[str, set[int]]:
    """Return the sets of code points for the SQL functions, by their names there."""
    valid = idna_points(idnadata.codepoint_classes["PVALID"]) & known
    contextual = idna_points(idnadata.codepoint_classes["CONTEXTJ"]) | idna_points(
        idnadata.codepoint_classes["CONTEXTO"]
    )
    joining = {kind: idna_points(r) for kind, r in idnadata.joining_types.items()}
    scripts = {name: idna_points(ranges) for name, ranges in idnadata.scripts.items()}
    usable = valid | contextual

    def with_property(is_one: Callable[[str], bool]) -> set[int]:
        return {point for point in usable if is_one(chr(point))}

    def with_direction(*names: str) -> set[int]:
        return with_property(lambda character: unicodedata.bidirectional(character) in names)

    return {
        "ASSIGNED": known,
        "VALID": valid,
        "MARKS": with_property(lambda character: unicodedata.category(character)[0] == "M"),
        "VIRAMAS": with_property(lambda character: unicodedata.combining(character) == VIRAMA),
        "JOINS_NEXT": (joining.get("L", set()) | joining["D"]) & usable,
        "JOINS_PREVIOUS": (joining["R"] | joining["D"]) & usable,
        "TRANSPARENT": joining["T"] & usable,
        "RIGHT_TO_LEFT": with_direction("R", "AL"),
        "ARABIC_NUMBERS": with_direction("AN"),
        "EUROPEAN_NUMBERS": with_direction("EN"),
        "NONSPACING": with_direction("NSM"),
        "NEUTRAL": with_direction(*NEUTRAL),
        "GREEK": scripts["Greek"] & usable,
        "HEBREW": scripts["Hebrew"] & usable,
        "KANA_AND_HAN": (scripts["Hiragana"] | scripts["Katakana"] | scripts["Han"]) & usable,
    }


def ranges(points: set[int]) -> list[tuple[int, int]]:
    """Return the set as ranges, first and last included."""
    found: list[tuple[int, int]] = []
    for point in sorted(points):
        if found and found[-1][1] == point - 1:
            found[-1] = (found[-1][0], point)
        else:
            found.append((point, point))
    return found


def python_text(points: set[int]) -> str:
    """Return a set as hexadecimal numbers and ranges, separated by blanks."""
    return " ".join(
        f"{low:X}" if low == high else f"{low:X}-{high:X}" for low, high in ranges(points)
    )


def sql_text(points: set[int]) -> str:
    """Return a set as the text of an int4multirange."""
    return "{" + ", ".join(f"[{low},{high}]" for low, high in ranges(points)) + "}"


def _constant(name: str, text: str) -> str:
    lines = wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    if len(lines) == 1:
        return f'{name} = "{text}"\n'
    written = "\n".join(f'    "{line} "' for line in lines[:-1])
    return f'{name} = (\n{written}\n    "{lines[-1]}"\n)\n'


def main(derived_age: Path) -> None:
    """Write both tables."""
    known = assigned(derived_age.read_text(encoding="utf-8").splitlines())
    table = _constant("ASSIGNED", python_text(known))
    PYTHON_TABLE.write_text(
        HEAD.format("Code points that Unicode 13 has assigned") + table, encoding="utf-8"
    )
    tables = [_constant(name, sql_text(points)) for name, points in sql_tables(known).items()]
    SQL_TABLES.write_text(
        HEAD.format("Sets of code points for migration 0016") + "".join(tables), encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
