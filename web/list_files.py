"""Reading an uploaded list as text: encodings of CSV files, and spreadsheets (.xlsx).

1. The first bytes tell a spreadsheet and other formats; what cannot be read is named.
2. A byte order mark, or many NUL bytes, tell UTF-16. Otherwise each line is UTF-8 or Windows-1252.
3. A small spreadsheet is converted to CSV at once. A larger one is kept as Base64, which
   `list_text` converts in the background.

The reader of spreadsheets is our own (docs/decisions/032-lists-of-mentees.md).
"""

import base64
import codecs
import csv
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

from provisioning.imports import UnreadableListError

# Limits of a list, checked before it is parsed, so that parsing stays cheap.
MAX_LINES = 20_000
MAX_COLUMNS = 50
TOO_MANY_LINES = "A lista passa de 20.000 linhas. Divida o arquivo."

SAVE_AS_CSV = "Abra-o no Excel e salve como «CSV UTF-8 (delimitado por vírgulas)» ou como .xlsx."
OTHER_FORMATS = (
    (b"\xd0\xcf\x11\xe0", "Isto é uma planilha antiga do Excel (.xls) ou protegida por senha."),
    (b"%PDF", "Isto é um PDF, não uma lista."),
    (b"<", "Isto é uma página da internet (HTML ou XML), não uma lista."),
    (b"{\\rtf", "Isto é um documento de texto (RTF), não uma lista."),
)
OPEN_DOCUMENT = "Isto é uma planilha do LibreOffice (.ods)."
OTHER_ZIP = "Isto é um arquivo compactado, não uma planilha."
BROKEN_SPREADSHEET = "A planilha está danificada e não pode ser lida."
TOO_LARGE_SPREADSHEET = "A planilha é grande demais. Deixe só a lista, em uma planilha nova."
NO_ENCODING = "A linha {} tem caracteres que não são nem UTF-8 nem Windows-1252."
MIXED_LINE = "A linha {} mistura duas codificações (UTF-8 e Windows-1252)."
BROKEN_UTF_16 = "O arquivo começa como UTF-16, mas está incompleto ou danificado."

BYTE_ORDER_MARKS = (  # those of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PROBE_BYTES = 1_024  # of a file without a mark; a third of them are NUL in UTF-16
ZIP = b"PK\x03\x04"
XLSX_PREFIX = "xlsx:"  # of a spreadsheet that is converted later; no list begins like this
XLSX_SEPARATOR_LINE = "sep=;\n"
END_OF_DIRECTORY = struct.Struct("<4s4xHHLL2x")  # signature, entries twice, size, offset
MAX_DIRECTORY_BYTES = 64 * 1024
MAX_XML_AT_ONCE = 256 * 1024  # bytes of XML, which are parsed in 10 ms
MAX_XML = 32 * 1024 * 1024
# What reading a damaged or encrypted spreadsheet raises.
SPREADSHEET_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error),
    *(expat.ExpatError, LookupError, ValueError),
)


def decode_file(content: bytes) -> str:
    """Return the text of an uploaded list, or a spreadsheet for `list_text`.

    Raises UnreadableListError, which names the format or the line that cannot be read.
    """
    if content.startswith(ZIP):
        return _read_at_once_or_encode(content)
    first_bytes = content[:PROBE_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
    for start, message in OTHER_FORMATS:
        if first_bytes.startswith(start):
            raise UnreadableListError(f"{message} {SAVE_AS_CSV}")
    _check_line_breaks(max(content.count(b"\n"), content.count(b"\r")))
    return _decode_wide(content) or _decode_narrow(content)


def is_encoded_spreadsheet(content: str) -> bool:
    """Whether `list_text` has to convert this spreadsheet first, which takes long."""
    return content.startswith(XLSX_PREFIX)


def list_text(content: str) -> str:
    """Return the CSV text of what `decode_file` has returned; raises UnreadableListError."""
    if not is_encoded_spreadsheet(content):
        return content
    encoded = content.removeprefix(XLSX_PREFIX)
    try:
        spreadsheet = base64.b64decode(encoded, validate=True)
    except ValueError as err:
        raise UnreadableListError(BROKEN_SPREADSHEET) from err
    return _convert(spreadsheet, MAX_XML)


def check_line_breaks(content: str) -> None:
    """Raise UnreadableListError for a text with too many lines."""
    _check_line_breaks(max(content.count("\n"), content.count("\r")))


def _check_line_breaks(count: int) -> None:
    if count > 2 * MAX_LINES:  # half of the lines may be blank
        raise UnreadableListError(TOO_MANY_LINES)


def _decode_wide(content: bytes) -> str | None:
    """Decode UTF-16 or UTF-32; None for a file without a mark and without many NUL bytes."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)
    if encoding is None:
        probe = content[:PROBE_BYTES]
        odd, even = probe[1::2].count(0), probe[::2].count(0)
        if 3 * max(odd, even) <= len(probe):
            return None
        encoding = "utf-16-le" if odd > even else "utf-16-be"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as err:
        raise UnreadableListError(f"{BROKEN_UTF_16} {SAVE_AS_CSV}") from err


def _decode_narrow(content: bytes) -> str:
    """Decode UTF-8, or Windows-1252, which Excel writes in Brazil; both may occur in one file."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError:
        if not _has_utf_8(content):
            return _decode_windows_1252(1, content)
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return "\n".join(_decode_line(number, line) for number, line in enumerate(lines, start=1))


def _decode_line(number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as err:
        if _has_utf_8(line):
            raise UnreadableListError(f"{MIXED_LINE.format(number)} {SAVE_AS_CSV}") from err
        return _decode_windows_1252(number, line)


def _has_utf_8(content: bytes) -> bool:
    """Whether there are characters of several bytes; in Windows-1252 they hardly ever occur."""
    return not content.decode(errors="ignore").isascii()


def _decode_windows_1252(first_line: int, content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as err:
        number = first_line + content.count(b"\n", 0, err.start)
        raise UnreadableListError(f"{NO_ENCODING.format(number)} {SAVE_AS_CSV}") from err


def _read_at_once_or_encode(content: bytes) -> str:
    archive = _open(content)
    try:
        parts = _parts(archive)
        size = sum(archive.getinfo(part).file_size for part in parts if part)
    except SPREADSHEET_ERRORS as err:
        raise UnreadableListError(f"{BROKEN_SPREADSHEET} {SAVE_AS_CSV}") from err
    if size > MAX_XML_AT_ONCE:
        return XLSX_PREFIX + base64.b64encode(content).decode()
    return _convert(content, MAX_XML_AT_ONCE)


def _convert(content: bytes, limit: int) -> str:
    """Return the first sheet as CSV, with each row in the line of its number."""
    archive = _open(content)
    try:
        sheet, strings = _parts(archive)
        texts = _shared_strings(_read(archive, strings, limit)) if strings else []
        rows = _Rows(texts)
        _parse(_read(archive, sheet, limit), rows.start, rows.end, rows.add_text)
    except SPREADSHEET_ERRORS as err:
        raise UnreadableListError(f"{BROKEN_SPREADSHEET} {SAVE_AS_CSV}") from err
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator="\n").writerows(rows.rows)
    return XLSX_SEPARATOR_LINE + text.getvalue()


def _open(content: bytes) -> zipfile.ZipFile:
    """Open a zip archive with a small directory, because reading its entries takes time."""
    start = content.rfind(b"PK\x05\x06")
    try:
        size = END_OF_DIRECTORY.unpack_from(content, start)[3]
        if start < 0 or size > MAX_DIRECTORY_BYTES:
            raise UnreadableListError(f"{OTHER_ZIP} {SAVE_AS_CSV}")
        return zipfile.ZipFile(io.BytesIO(content))
    except SPREADSHEET_ERRORS as err:
        raise UnreadableListError(f"{BROKEN_SPREADSHEET} {SAVE_AS_CSV}") from err


def _parts(archive: zipfile.ZipFile) -> tuple[str, str | None]:
    """Return the names of the first sheet and of the shared texts, if there are any."""
    names = archive.namelist()
    if "xl/workbook.xml" not in names:
        is_open_document = "content.xml" in names and "mimetype" in names
        raise UnreadableListError(
            f"{OPEN_DOCUMENT if is_open_document else OTHER_ZIP} {SAVE_AS_CSV}"
        )
    sheet_id = _first_attribute(archive, "xl/workbook.xml", "sheet", "id")
    target = _first_attribute(
        archive, "xl/_rels/workbook.xml.rels", "Relationship", "Target", sheet_id
    )
    sheet = target[1:] if target.startswith("/") else f"xl/{target}"
    strings = "xl/sharedStrings.xml"
    return sheet, strings if strings in names else None


def _first_attribute(
    archive: zipfile.ZipFile, part: str, element: str, name: str, wanted_id: str | None = None
) -> str:
    """Return an attribute of the first element, or of the one with that `Id`.

    Of a workbook's sheet, `id` is the relationship, not `sheetId`. Raises KeyError.
    """
    found: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        values = {_local(key): value for key, value in attributes.items()}
        is_visible = values.get("state", "visible") == "visible"
        if _local(tag) == element and is_visible and wanted_id in (None, values.get("Id")):
            found.append(values[name])

    _parse(_read(archive, part, MAX_XML_AT_ONCE), start)
    return dict(enumerate(found))[0]


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Return a part of the archive; the size in its directory limits what is decompressed."""
    if archive.getinfo(name).file_size > limit:
        raise UnreadableListError(f"{TOO_LARGE_SPREADSHEET} {SAVE_AS_CSV}")
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
    strings = _Strings()
    _parse(document, strings.start, strings.end, strings.add_text)
    return strings.texts


@dataclass(slots=True)
class _Strings:
    """Collects the shared texts from the events of the XML parser."""

    texts: list[str] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)  # the elements around the position

    def start(self, tag: str, _: dict[str, str]) -> None:
        """Begin an element."""
        self._open.append(_local(tag))

    def add_text(self, characters: str) -> None:
        """Add to the text."""
        if self._open[-1] == "t" and "rPh" not in self._open:
            self._parts.append(characters)

    def end(self, _: str) -> None:
        """End an element."""
        if self._open.pop() == "si":
            self.texts.append("".join(self._parts))
            self._parts.clear()


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
            self._begin_row(int(attributes.get("r", len(self.rows) + 1)))
        elif name == "c":
            place = attributes.get("r")
            self._column = _column_of(place) if place else self._column + 1
            self._type, self._value = attributes.get("t", "n"), []
        elif name in ("v", "t"):
            self._parts = []

    def _begin_row(self, number: int) -> None:
        if number > 2 * MAX_LINES:
            raise UnreadableListError(TOO_MANY_LINES)
        self.rows += [[] for _ in range(len(self.rows), number - 1)]
        self._row, self._column = [], -1

    def add_text(self, characters: str) -> None:
        """Add to the value."""
        if self._parts is not None:
            self._parts.append(characters)

    def end(self, tag: str) -> None:
        """End a value, a cell or a row."""
        name = _local(tag)
        if name in ("v", "t") and self._parts is not None:
            self._value, self._parts = [*self._value, *self._parts], None
        elif name == "c" and 0 <= self._column <= MAX_COLUMNS:
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
