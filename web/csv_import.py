"""Reading a list of mentees from a spreadsheet: with any separator, with or without a BOM."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from provisioning.imports import ImportLine, UnreadableListError
from web.errors import InvalidInputError
from web.month_input import BY_HAND, as_written
from web.validation import Amount, Body, Email, Name, checked

SEPARATORS = ";,\t"
# What a list may be at most, counted before it is read: the work of reading stays in proportion.
MOST_LINES = 20_000
MOST_COLUMNS = 50
LONGEST_LINE = 20_000  # characters
LONGEST_CELL = 1_000  # characters that are looked at; no column takes half of it
LONGEST_SHOWN = 255
COLUMNS = {
    "nome": "nome_completo",
    "nome completo": "nome_completo",
    "nome_completo": "nome_completo",
    "email": "email",
    "e-mail": "email",
}
GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NO_NAMES = "A primeira linha deve ter os títulos das colunas: nome e e-mail."
TOO_LONG = "A lista passa de 20.000 linhas. Divida o arquivo."
TOO_WIDE = "A lista passa de 50 colunas. Deixe só as que importam."
LINE_TOO_LONG = "A linha {} passa de 20.000 caracteres."
UNREADABLE = "A linha {} não pode ser lida."

Written = Annotated[Amount, BeforeValidator(as_written)]


class Row(Body):
    """A line of the list; goals that are left out are the usual ones."""

    nome_completo: Name
    email: Annotated[Email | None, BeforeValidator(lambda value: value or None)] = None
    meta_faturamento: Written = 16_000
    meta_leads: Written = 50
    meta_procedimentos: Written = 10
    meta_posts: Written = 12
    meta_stories: Written = 60


def decoded(content: bytes) -> str:
    """Return a file as text: UTF-8 with or without a BOM, otherwise what Excel writes in Brazil.

    Raises UnreadableListError for one with too many lines, before it is decoded.
    """
    _check_line_breaks(max(content.count(b"\n"), content.count(b"\r")))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def count_lines(content: str) -> int:
    """Return how many lines a list has without its titles and blank ones, without reading them.

    Raises UnreadableListError for what is no list of mentees, or too large to be read.
    """
    content = _plain(content)
    _open(content)
    number_of_lines = sum(1 for line in content.split("\n")[1:] if line.strip(SEPARATORS + " "))
    if number_of_lines > MOST_LINES:
        raise UnreadableListError(TOO_LONG)
    return number_of_lines


def read_list(content: str) -> list[ImportLine]:
    """Read and check every line; raises UnreadableListError for a file that is no such list."""
    titles, rows = _open(_plain(content))
    lines = [_line(number, dict(zip(titles, cells, strict=False))) for number, cells in rows]
    if len(lines) > MOST_LINES:
        raise UnreadableListError(TOO_LONG)
    return lines


def written_list(rows: Iterable[tuple[str, str]]) -> str:
    """A list as `read_list` reads it."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=SEPARATORS[0]).writerows(rows)
    return lines.getvalue()


def _plain(content: str) -> str:
    """The list from its titles on, with one kind of line break, in lines of a bearable length."""
    _check_line_breaks(max(content.count("\n"), content.count("\r")))
    content = content.replace("\r\n", "\n").replace("\r", "\n").lstrip()
    for number, line in enumerate(content.split("\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise UnreadableListError(LINE_TOO_LONG.format(number))
    return content


def _check_line_breaks(number: int) -> None:
    if number > 2 * MOST_LINES:  # as many lines may be blank
        raise UnreadableListError(TOO_LONG)


def _open(content: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The columns by their titles, blank for one that is not ours, and the lines behind them."""
    first = content.split("\n", 1)[0]
    separator = max(SEPARATORS, key=first.count)
    if first.count(separator) >= MOST_COLUMNS:
        raise UnreadableListError(TOO_WIDE)
    rows = _rows(csv.reader(io.StringIO(content, newline=""), delimiter=separator))
    titles = [_column(title) for title in next(rows, (0, []))[1]]
    if "nome_completo" not in titles:
        raise UnreadableListError(NO_NAMES)
    return titles, rows


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, by the number that a spreadsheet shows."""
    try:
        for cells in reader:
            looked_at = [cell[:LONGEST_CELL].strip() for cell in cells[:MOST_COLUMNS]]
            if any(looked_at):
                yield reader.line_num, looked_at
    except csv.Error as err:
        raise UnreadableListError(UNREADABLE.format(reader.line_num)) from err


def _column(title: str) -> str:
    plain = title.strip().lower()
    return COLUMNS.get(plain, plain if plain in GOALS else "")


def _line(number: int, cells: dict[str, str]) -> ImportLine:
    given = {name: value for name, value in cells.items() if name and (value or name not in GOALS)}
    name, email = (cells.get(key, "")[:LONGEST_SHOWN] for key in ("nome_completo", "email"))
    try:
        return ImportLine(number, name, email, checked(Row, given, BY_HAND).model_dump())
    except InvalidInputError as err:
        faults = tuple(f"{e['field']}: {e['message']}" for e in err.errors)
        return ImportLine(number, name, email, None, faults)
