"""Reading an uploaded list as text: encodings of CSV files, and spreadsheets (.xlsx).

1. The first bytes identify a spreadsheet and other formats; unreadable ones are named.
2. A byte order mark, or many NUL bytes, identify UTF-16. Otherwise each line is UTF-8 or
   Windows-1252.
3. A small spreadsheet is converted to CSV at once. A larger one is kept as Base64, which
   `list_text` converts in the background.
"""

import base64
import binascii
import codecs
import csv
import io

from provisioning.imports import MAX_LIST_LINES, TOO_MANY_LINES, UnreadableListError
from web.spreadsheet import BROKEN, SAVE_AS_CSV, ZIP, is_small, read_rows

OTHER_FORMATS = (
    (b"\xd0\xcf\x11\xe0", "Isto é uma planilha antiga do Excel (.xls) ou protegida por senha."),
    (b"%PDF", "Isto é um PDF, não uma lista."),
    (b"<", "Isto é uma página da internet (HTML ou XML), não uma lista."),
    (b"{\\rtf", "Isto é um documento de texto (RTF), não uma lista."),
)
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
XLSX_PREFIX = "xlsx:"  # of a spreadsheet that is converted later; no list begins like this
XLSX_SEPARATOR_LINE = "sep=;\n"


def decode_file(content: bytes) -> str:
    """Return the text of an uploaded list, or a spreadsheet for `list_text`.

    Raises UnreadableListError, which names the format or the line that cannot be read.
    """
    if content.startswith(ZIP):
        return _convert(content) if is_small(content) else _encode(content)
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
    try:
        return _convert(base64.b64decode(content.removeprefix(XLSX_PREFIX), validate=True))
    except binascii.Error as err:
        raise UnreadableListError(BROKEN) from err


def check_line_breaks(content: str) -> None:
    """Raise UnreadableListError for a text with too many lines."""
    _check_line_breaks(max(content.count("\n"), content.count("\r")))


def _convert(spreadsheet: bytes) -> str:
    """Return a spreadsheet as CSV, each row in the line of its number."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator="\n").writerows(read_rows(spreadsheet))
    return XLSX_SEPARATOR_LINE + text.getvalue()


def _encode(spreadsheet: bytes) -> str:
    return XLSX_PREFIX + base64.b64encode(spreadsheet).decode()


def _check_line_breaks(count: int) -> None:
    if count > 2 * MAX_LIST_LINES:  # half of the lines may be blank
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
