"""Reading a CSV list of mentees, with any separator, with or without a BOM."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from provisioning.imports import ImportLine, UnreadableListError
from web.errors import InvalidInputError
from web.month_input import FORM_INPUT, parse_typed_number
from web.validation import Amount, Body, Email, Name, validate_model

SEPARATORS = ";,\t"
# Limits of a list, checked before it is parsed, so that parsing stays cheap.
MAX_LINES = 20_000
MAX_COLUMNS = 50
MAX_LINE_LENGTH = 20_000  # characters
MAX_CELL_LENGTH = 1_000  # characters that are read; more than twice what a column can hold
MAX_SHOWN_LENGTH = 255
COLUMNS = {
    "nome": "nome_completo",
    "nome completo": "nome_completo",
    "nome_completo": "nome_completo",
    "email": "email",
    "e-mail": "email",
}
GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NO_NAME_COLUMN = "A primeira linha deve ter os títulos das colunas: nome e e-mail."
TOO_MANY_LINES = "A lista passa de 20.000 linhas. Divida o arquivo."
TOO_MANY_COLUMNS = "A lista passa de 50 colunas. Deixe só as que importam."
LINE_TOO_LONG = "A linha {} passa de 20.000 caracteres."
UNREADABLE = "A linha {} não pode ser lida."

TypedAmount = Annotated[Amount, BeforeValidator(parse_typed_number)]


class Row(Body):
    """A line of the list; omitted goals get their defaults."""

    nome_completo: Name
    email: Annotated[Email | None, BeforeValidator(lambda value: value or None)] = None
    meta_faturamento: TypedAmount = 16_000
    meta_leads: TypedAmount = 50
    meta_procedimentos: TypedAmount = 10
    meta_posts: TypedAmount = 12
    meta_stories: TypedAmount = 60


def decode_file(content: bytes) -> str:
    """Decode a file: UTF-8 with or without a BOM, otherwise cp1252, which Excel writes in Brazil.

    Raises UnreadableListError for one with too many lines, before it is decoded.
    """
    _check_line_breaks(max(content.count(b"\n"), content.count(b"\r")))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def count_lines(content: str) -> int:
    """Return the number of lines without titles and blank lines, without parsing them.

    Raises UnreadableListError for a text that is not a list of mentees, or too large.
    """
    content = _normalize(content)
    _read_titles(content)
    number_of_lines = sum(1 for line in content.split("\n")[1:] if line.strip(SEPARATORS + " "))
    if number_of_lines > MAX_LINES:
        raise UnreadableListError(TOO_MANY_LINES)
    return number_of_lines


def read_list(content: str) -> list[ImportLine]:
    """Parse and check every line; raises UnreadableListError for a text that is not such a list."""
    titles, rows = _read_titles(_normalize(content))
    lines = [_check_line(number, dict(zip(titles, cells, strict=False))) for number, cells in rows]
    if len(lines) > MAX_LINES:
        raise UnreadableListError(TOO_MANY_LINES)
    return lines


def write_list(rows: Iterable[tuple[str, str]]) -> str:
    """Write a list that `read_list` can read."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=SEPARATORS[0]).writerows(rows)
    return lines.getvalue()


def _normalize(content: str) -> str:
    r"""Return the list from its titles on, with `\n` as the only line break.

    Raises UnreadableListError for too many lines, and for one that is too long.
    """
    _check_line_breaks(max(content.count("\n"), content.count("\r")))
    content = content.replace("\r\n", "\n").replace("\r", "\n").lstrip()
    for number, line in enumerate(content.split("\n"), start=1):
        if len(line) > MAX_LINE_LENGTH:
            raise UnreadableListError(LINE_TOO_LONG.format(number))
    return content


def _check_line_breaks(count: int) -> None:
    if count > 2 * MAX_LINES:  # half of the lines may be blank
        raise UnreadableListError(TOO_MANY_LINES)


def _read_titles(content: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the column name of each title, blank for an unknown one, and the lines below."""
    first = content.split("\n", 1)[0]
    separator = max(SEPARATORS, key=first.count)
    if first.count(separator) >= MAX_COLUMNS:
        raise UnreadableListError(TOO_MANY_COLUMNS)
    rows = _non_blank_rows(csv.reader(io.StringIO(content, newline=""), delimiter=separator))
    titles = [_column_name(title) for title in next(rows, (0, []))[1]]
    if "nome_completo" not in titles:
        raise UnreadableListError(NO_NAME_COLUMN)
    return titles, rows


def _non_blank_rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield lines that are not blank, with their line numbers."""
    try:
        for cells in reader:
            values = [cell[:MAX_CELL_LENGTH].strip() for cell in cells[:MAX_COLUMNS]]
            if any(values):
                yield reader.line_num, values
    except csv.Error as err:
        raise UnreadableListError(UNREADABLE.format(reader.line_num)) from err


def _column_name(title: str) -> str:
    normalized = title.strip().lower()
    return COLUMNS.get(normalized, normalized if normalized in GOALS else "")


def _check_line(number: int, cells: dict[str, str]) -> ImportLine:
    fields = {name: value for name, value in cells.items() if name and (value or name not in GOALS)}
    name, email = (cells.get(key, "")[:MAX_SHOWN_LENGTH] for key in ("nome_completo", "email"))
    try:
        return ImportLine(number, name, email, validate_model(Row, fields, FORM_INPUT).model_dump())
    except InvalidInputError as err:
        errors = tuple(f"{e['field']}: {e['message']}" for e in err.errors)
        return ImportLine(number, name, email, None, errors)
