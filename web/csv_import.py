"""Reading a list of mentees: a CSV file in any encoding, or a spreadsheet, with any titles.

1. The first bytes identify a spreadsheet and other formats; unreadable ones are named.
2. A byte order mark, or many NUL bytes, identify UTF-16. Otherwise each line is UTF-8 or
   Windows-1252.
3. A small spreadsheet is converted to CSV at once. A larger one is kept as Base64, which
   `list_text` converts in the background.
4. The first line has the titles of the columns; each other line is checked on its own.
"""

import base64
import binascii
import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator

from provisioning.imports import (
    MAX_LIST_COLUMNS,
    MAX_LIST_LINES,
    TOO_MANY_LINES,
    ImportLine,
    ListColumns,
    MenteeList,
    UnreadableListError,
)
from web.admin_labels import FACTS
from web.errors import InvalidInputError
from web.formatting import plain_text
from web.month_input import FORM_INPUT, Figure
from web.spreadsheet import BROKEN, SAVE_AS_CSV, ZIP, is_small, read_rows
from web.validation import Body, Email, Name, validate_model

SEPARATORS = ";,\t|"
# Excel's own first line with the separator; it does not show it, nor count it as a line.
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
MAX_LINE_LENGTH = 20_000  # characters
MAX_CELL_LENGTH = 1_000  # characters that are read; more than twice what a column can hold
MAX_SHOWN_LENGTH = 255
NAME, EMAIL = "nome_completo", "email"
PEOPLE = ("mentorado", "mentorada", "aluno", "aluna")
NAME_TITLES = ("nome", "nome completo", *PEOPLE, *(f"nome {person}" for person in PEOPLE))
EMAIL_TITLES = ("email", "e mail", "mail", "endereco email", "endereco e mail")
GOAL_TITLES = {
    "meta_faturamento": ("faturamento",),
    "meta_leads": ("leads", "lead"),
    "meta_procedimentos": ("procedimentos", "procedimento"),
    "meta_posts": ("posts", "post", "posts feed"),
    "meta_stories": ("stories", "story"),
}
GOALS = tuple(GOAL_TITLES)
# Words that a title may also have: «Meta de faturamento (R$) por mês».
FILLERS = {"de", "do", "da", "no", "o", "a", "por", "mes", "mensal"}
FIELD_OF_TITLE = {
    **dict.fromkeys(NAME_TITLES, NAME),
    **{
        f"{title}{owner}": EMAIL
        for title, owner in product(EMAIL_TITLES, ("", *(f" {person}" for person in PEOPLE)))
    },
    **{
        f"{meta} {word}": goal
        for goal, words in GOAL_TITLES.items()
        for meta, word in product(("meta", "metas"), words)
    },
}

NO_NAME_COLUMN = (
    "A primeira linha deve ter os títulos das colunas: nome e e-mail. Use o modelo, ou escreva "
    "«Nome completo» e «E-mail» acima das colunas."
)
NO_LINES = "A lista só tem os títulos, e nenhuma linha abaixo deles."

OTHER_FORMATS = (
    (b"\xd0\xcf\x11\xe0", "Isto é uma planilha antiga do Excel (.xls) ou protegida por senha."),
    (b"%PDF", "Isto é um PDF, não uma lista."),
    (b"<", "Isto é uma página da internet (HTML ou XML), não uma lista."),
    (b"{\\rtf", "Isto é um documento de texto (RTF), não uma lista."),
)
NO_ENCODING = "A linha {} tem caracteres que não são nem UTF-8 nem Windows-1252."
MIXED_LINE = "A linha {} mistura duas codificações (UTF-8 e Windows-1252)."
BROKEN_UTF_16 = "O arquivo começa como UTF-16, mas está incompleto ou danificado."

BYTE_ORDER_MARKS = {  # those of UTF-32 begin like those of UTF-16
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
PROBE_BYTES = 1_024  # of a file without a mark; a third of them are NUL in UTF-16
XLSX_PREFIX = "xlsx:"  # of a spreadsheet that is converted later; no list begins like this


class Row(Body):
    """A line of the list; omitted goals get their defaults."""

    nome_completo: Name
    email: Annotated[Email | None, BeforeValidator(lambda value: value or None)] = None
    meta_faturamento: Figure = 16_000
    meta_leads: Figure = 50
    meta_procedimentos: Figure = 10
    meta_posts: Figure = 12
    meta_stories: Figure = 60


def decode_file(content: bytes) -> str:
    """Return the text of an uploaded list, or a spreadsheet for `list_text`.

    Raises UnreadableListError, which names the format or the line that cannot be read.
    """
    if content.startswith(ZIP):
        if is_small(content):
            return _convert(content)
        return XLSX_PREFIX + base64.b64encode(content).decode()
    first_bytes = content[:PROBE_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
    for start, message in OTHER_FORMATS:
        if first_bytes.startswith(start):
            raise UnreadableListError(f"{message} {SAVE_AS_CSV}")
    _check_line_breaks(content.count(b"\n"), content.count(b"\r"))
    return _decode_utf_16_or_32(content) or _decode_utf_8_or_windows_1252(content)


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


def count_lines(content: str) -> int:
    """Return the number of lines without titles and blank lines, without parsing them.

    Raises UnreadableListError for a text that is not a list of mentees, or too large.
    """
    below_titles = _OpenedList(content).content.split("\n")[1:]
    return _checked_count(sum(1 for line in below_titles if line.strip(SEPARATORS + " ")))


def read_list(content: str) -> MenteeList:
    """Parse and check every line; raises UnreadableListError for a text that is not such a list."""
    opened = _OpenedList(content)
    fields = opened.columns.fields
    lines = [_check_line(number, fields, cells) for number, cells in opened.rows]
    _checked_count(len(lines))
    return MenteeList(lines, opened.columns)


def _checked_count(number_of_lines: int) -> int:
    """Return the number of lines; raises UnreadableListError for none, and for too many."""
    if number_of_lines == 0:
        raise UnreadableListError(NO_LINES)
    if number_of_lines > MAX_LIST_LINES:
        raise UnreadableListError(TOO_MANY_LINES)
    return number_of_lines


def write_list(rows: Iterable[tuple[str, str]]) -> str:
    """Write a list that `read_list` can read."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=SEPARATORS[0]).writerows(rows)
    return lines.getvalue()


class _OpenedList:
    r"""A list with `\n` as the only line break, its columns, and the rows below the titles.

    Raises UnreadableListError for too many lines or columns, a line that is too long, and a list
    without a column of names.
    """

    def __init__(self, content: str) -> None:
        _check_line_breaks(content.count("\n"), content.count("\r"))
        content = content.replace("\r\n", "\n").replace("\r", "\n")
        start = len(content) - len(content.lstrip())
        lines_above = content.count("\n", 0, start)
        content = content[start:]
        first, _, rest = content.partition("\n")
        named = SEPARATOR_LINE.fullmatch(first.strip())
        self.content = rest if named else content
        for number, line in enumerate(self.content.split("\n"), start=lines_above + 1):
            if len(line) > MAX_LINE_LENGTH:
                raise UnreadableListError(f"A linha {number} passa de 20.000 caracteres.")
        first = self.content.partition("\n")[0]
        separator = named[1] if named else max(SEPARATORS, key=first.count)
        if first.count(separator) >= MAX_LIST_COLUMNS:
            raise UnreadableListError("A lista passa de 50 colunas. Deixe só as que importam.")
        reader = csv.reader(io.StringIO(self.content, newline=""), delimiter=separator)
        self.rows = _non_blank_rows(reader, lines_above)
        self.columns = _columns_of(next(self.rows, (0, []))[1])


def _columns_of(titles: list[str]) -> ListColumns:
    """Return the field of each title; of several titles with one field, the first has it."""
    found = [FIELD_OF_TITLE.get(_normalized_title(title), "") for title in titles]
    fields = tuple(field if field not in found[:index] else "" for index, field in enumerate(found))
    if NAME not in fields:
        raise UnreadableListError(NO_NAME_COLUMN)
    columns = list(zip(titles, found, fields, strict=True))
    ignored = tuple(title for title, field, _ in columns if title and not field)
    repeated = tuple(title for title, field, used in columns if field and not used)
    return ListColumns(tuple(titles), fields, ignored, repeated)


def _normalized_title(title: str) -> str:
    """Return a title in lower case, without accents, signs, parentheses and filling words."""
    words = re.sub(r"\([^)]*\)|[^a-z0-9]", " ", plain_text(title)).split()
    return " ".join(word for word in words if word not in FILLERS)


def _non_blank_rows(reader: Any, lines_above: int) -> Iterator[tuple[int, list[str]]]:
    """Yield lines that are not blank, with their line numbers."""
    try:
        for cells in reader:
            values = [cell[:MAX_CELL_LENGTH].strip() for cell in cells[:MAX_LIST_COLUMNS]]
            if any(values):
                yield lines_above + reader.line_num, values
    except csv.Error as err:
        message = f"A linha {lines_above + reader.line_num} não pode ser lida."
        raise UnreadableListError(message) from err


def _check_line(number: int, fields: tuple[str, ...], cells: list[str]) -> ImportLine:
    values = {name: cell for name, cell in zip(fields, cells, strict=False) if name}
    filled = {name: cell for name, cell in values.items() if cell or name not in GOALS}
    name, email = (values.get(key, "")[:MAX_SHOWN_LENGTH] for key in (NAME, EMAIL))
    try:
        checked = validate_model(Row, filled, FORM_INPUT).model_dump()
    except InvalidInputError as err:
        faults = tuple(f"{FACTS[e['field']]}: {e['message']}" for e in err.errors)
        return ImportLine(number, name, email, None, faults, tuple(cells))
    return ImportLine(number, name, email, checked, (), tuple(cells))


def _convert(spreadsheet: bytes) -> str:
    """Return a spreadsheet as CSV, each row in the line of its number."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator="\n").writerows(read_rows(spreadsheet))
    return "sep=;\n" + text.getvalue()


def _check_line_breaks(*counts: int) -> None:
    """Raise UnreadableListError for a text with too many lines."""
    if max(counts) > 2 * MAX_LIST_LINES:  # half of the lines may be blank
        raise UnreadableListError(TOO_MANY_LINES)


def _decode_utf_16_or_32(content: bytes) -> str | None:
    """Decode UTF-16 or UTF-32; None for a file without a mark and without many NUL bytes."""
    marks = BYTE_ORDER_MARKS.items()
    encoding = next((name for name, mark in marks if content.startswith(mark)), None)
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


def _decode_utf_8_or_windows_1252(content: bytes) -> str:
    """Decode UTF-8, or Windows-1252, which Excel writes in Brazil; both may occur in one file."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):
            if content.decode(errors="ignore").isascii():  # one encoding; faster than by lines
                return content.decode("cp1252")
        lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return "\n".join(_decode_line(number, line) for number, line in enumerate(lines, start=1))


def _decode_line(number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as err:
        # In Windows-1252, what UTF-8 writes in several bytes hardly ever occurs.
        message = NO_ENCODING if line.decode(errors="ignore").isascii() else MIXED_LINE
        if message is NO_ENCODING:
            with suppress(UnicodeDecodeError):
                return line.decode("cp1252")
        raise UnreadableListError(f"{message.format(number)} {SAVE_AS_CSV}") from err
