"""Reading the first sheet of a spreadsheet (.xlsx, ECMA-376) as rows of text.

The reader is our own (docs/decisions/032-lists-of-mentees.md). It reads four parts of the archive:
the workbook, its relationships, the shared texts and the sheet. The directory of the archive states
their sizes, which limits what is decompressed.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.parsers import expat

from provisioning.imports import (
    MAX_LIST_COLUMNS,
    MAX_LIST_LINES,
    TOO_MANY_LINES,
    UnreadableListError,
)

SAVE_AS_CSV = "Abra-o no Excel e salve como «CSV UTF-8 (delimitado por vírgulas)» ou como .xlsx."
OPEN_DOCUMENT = "Isto é uma planilha do LibreOffice (.ods)."
OTHER_ZIP = "Isto é um arquivo compactado, não uma planilha."
BROKEN = "A planilha está danificada e não pode ser lida."
TOO_LARGE = "A planilha é grande demais. Deixe só a lista, em uma planilha nova."

ZIP = b"PK\x03\x04"
END_OF_DIRECTORY = struct.Struct("<4s4xHHLL2x")  # signature, entries twice, size, offset
MAX_DIRECTORY_BYTES = 64 * 1024
MAX_SMALL_XML = 256 * 1024  # bytes, which are parsed within 45 ms, whatever they are
MAX_XML = 32 * 1024 * 1024
# What reading a damaged or encrypted spreadsheet raises.
SPREADSHEET_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error),
    *(expat.ExpatError, LookupError, ValueError),
)


def is_small(content: bytes) -> bool:
    """Whether a request has time to read the spreadsheet; raises UnreadableListError."""
    with _opened(content) as archive:
        return sum(archive.getinfo(part).file_size for part in _parts(archive)) <= MAX_SMALL_XML


def read_rows(content: bytes) -> list[list[str]]:
    """Return the rows of the first visible sheet, also blank ones above and between others.

    Raises UnreadableListError for an archive that is no spreadsheet, damaged or too large.
    """
    with _opened(content) as archive:
        sheet, *strings = _parts(archive)
        rows = _Rows(_shared_strings(_read(archive, strings[0])) if strings else [])
        _parse(_read(archive, sheet), rows.start, rows.end, rows.add_text)
        return rows.rows


@contextmanager
def _opened(content: bytes) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive with a small directory, because reading its entries takes time.

    What reading a damaged one raises becomes UnreadableListError.
    """
    start = content.rfind(b"PK\x05\x06")
    try:
        size = END_OF_DIRECTORY.unpack_from(content, start)[3]
        if start < 0 or size > MAX_DIRECTORY_BYTES:
            raise UnreadableListError(f"{OTHER_ZIP} {SAVE_AS_CSV}")
        yield zipfile.ZipFile(io.BytesIO(content))
    except SPREADSHEET_ERRORS as err:
        raise UnreadableListError(f"{BROKEN} {SAVE_AS_CSV}") from err


def _parts(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the first visible sheet and, if there are any, of the shared texts."""
    names = archive.namelist()
    if "xl/workbook.xml" not in names:
        is_open_document = "content.xml" in names and "mimetype" in names
        message = OPEN_DOCUMENT if is_open_document else OTHER_ZIP
        raise UnreadableListError(f"{message} {SAVE_AS_CSV}")
    sheet_id = _first_attribute(archive, "xl/workbook.xml", "sheet", "id")
    relations = "xl/_rels/workbook.xml.rels"
    target = _first_attribute(archive, relations, "Relationship", "Target", sheet_id)
    sheet = target[1:] if target.startswith("/") else f"xl/{target}"
    strings = "xl/sharedStrings.xml"
    return [sheet, strings] if strings in names else [sheet]


def _first_attribute(
    archive: zipfile.ZipFile, part: str, element: str, name: str, wanted_id: str | None = None
) -> str:
    """Return an attribute of the first visible element, or of the one with that `Id`.

    Of a workbook's sheet, `id` is the relationship, not `sheetId`. Raises IndexError.
    """
    found: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        values = {_local(key): value for key, value in attributes.items()}
        is_visible = values.get("state", "visible") == "visible"
        if _local(tag) == element and is_visible and wanted_id in (None, values.get("Id")):
            found.append(values[name])

    _parse(_read(archive, part, MAX_SMALL_XML), start)
    return found[0]


def _read(archive: zipfile.ZipFile, name: str, limit: int = MAX_XML) -> bytes:
    """Return a part of the archive; no more is decompressed than its directory says."""
    if archive.getinfo(name).file_size > limit:
        raise UnreadableListError(f"{TOO_LARGE} {SAVE_AS_CSV}")
    with archive.open(name) as part:
        return part.read(limit)


def _parse(
    document: bytes,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Parse XML without a document type, whose entities could make it grow."""

    def refuse(*_: object) -> None:
        raise expat.ExpatError("a document type")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.Parse(document, True)  # noqa: FBT003 - positional only


def _local(name: str) -> str:
    """Return an XML name without its prefix."""
    return name.rpartition(":")[2]


def _shared_strings(document: bytes) -> list[str]:
    """Return the texts that cells refer to by index; pronunciation hints are left out."""
    texts: list[str] = []
    parts: list[str] = []
    around: list[str] = []  # the elements around the position

    def add_text(characters: str) -> None:
        if around[-1] == "t" and "rPh" not in around:
            parts.append(characters)

    def end(_: str) -> None:
        if around.pop() == "si":
            texts.append("".join(parts))
            parts.clear()

    _parse(document, lambda tag, _: around.append(_local(tag)), end, add_text)
    return texts


@dataclass(slots=True)
class _Rows:
    """Collects the rows of a sheet from the events of the XML parser."""

    texts: list[str]
    rows: list[list[str]] = field(default_factory=list)
    _row: list[str] = field(default_factory=list)
    _column: int = 0
    _type: str = "n"
    _parts: list[str] | None = None  # while a value is read
    _value: list[str] = field(default_factory=list)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin a row, a cell or a value."""
        name = _local(tag)
        if name == "row":
            number = int(attributes.get("r", len(self.rows) + 1))
            if number > 2 * MAX_LIST_LINES:
                raise UnreadableListError(TOO_MANY_LINES)
            self.rows += [[] for _ in range(len(self.rows), number - 1)]
            self._row, self._column = [], -1
        elif name == "c":
            place = attributes.get("r")
            self._column = _column_of(place) if place else self._column + 1
            self._type, self._value = attributes.get("t", "n"), []
        elif name in ("v", "t"):
            self._parts = []

    def add_text(self, characters: str) -> None:
        """Add to the value."""
        if self._parts is not None:
            self._parts.append(characters)

    def end(self, tag: str) -> None:
        """End a value, a cell or a row."""
        name = _local(tag)
        if name in ("v", "t") and self._parts is not None:
            self._value, self._parts = [*self._value, *self._parts], None
        elif name == "c" and 0 <= self._column <= MAX_LIST_COLUMNS:
            self._row += [""] * (self._column + 1 - len(self._row))
            self._row[self._column] = self._cell_text("".join(self._value))
        elif name == "row":
            self.rows.append(self._row)

    def _cell_text(self, value: str) -> str:
        if self._type == "s":
            value = self.texts[int(value)]
        elif self._type == "b":
            value = "VERDADEIRO" if value == "1" else "FALSO"
        elif self._type == "n":
            value = _number_text(value)
        return " ".join(value.split("\n"))  # a line of the list is one row


def _column_of(place: str) -> int:
    """Return the index of a cell's column: «A7» → 0, «AB7» → 27."""
    index = 0
    for letter in place.rstrip("0123456789"):
        index = 26 * index + ord(letter) - 64
    return index - 1


def _number_text(value: str) -> str:
    """Return a number as people write it: «25000.0» → «25000», «1.5» → «1,50»."""
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return f"{number:.0f}" if number.is_integer() else f"{number:.2f}".replace(".", ",")
