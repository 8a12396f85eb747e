"""Reading a list of mentees from a spreadsheet: whatever separator, with or without a BOM."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from blueprints.bodies import Amount, Body, Email, Name, checked
from blueprints.errors import InvalidInputError
from blueprints.month_bodies import BY_HAND, as_written

SEPARATORS = ";,\t"
MOST_LINES = 20_000
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


@dataclass(frozen=True, slots=True)
class Line:
    """A line by its number in the file, with its checked values, or with what is wrong in it."""

    number: int
    name: str
    email: str
    values: dict[str, Any] | None
    faults: tuple[str, ...] = ()


def decoded(content: bytes) -> str:
    """A file as text: UTF-8 with or without a BOM, otherwise what Excel writes in Brazil."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_list(content: str) -> list[Line]:
    """Read and check every line; raises InvalidInputError for a file that is no such list."""
    first = content.lstrip().split("\n", 1)[0]
    separator = max(SEPARATORS, key=first.count)
    rows = _rows(csv.reader(io.StringIO(content.lstrip(), newline=""), delimiter=separator))
    titles = [_column(title) for title in next(rows, (0, []))[1]]
    if "nome_completo" not in titles:
        raise InvalidInputError([{"field": "arquivo", "message": NO_NAMES}])
    lines = [_line(number, dict(zip(titles, cells, strict=False))) for number, cells in rows]
    if len(lines) > MOST_LINES:
        raise InvalidInputError([{"field": "arquivo", "message": TOO_LONG}])
    return lines


def written_list(rows: Iterable[tuple[str, str]]) -> str:
    """A list as `read_list` reads it."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=SEPARATORS[0]).writerows(rows)
    return lines.getvalue()


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, by the number that a spreadsheet shows."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as err:
        message = f"A linha {reader.line_num} não pode ser lida."
        raise InvalidInputError([{"field": "arquivo", "message": message}]) from err


def _column(title: str) -> str:
    plain = title.strip().lower()
    return COLUMNS.get(plain, plain if plain in GOALS else "")


def _line(number: int, cells: dict[str, str]) -> Line:
    given = {name: value for name, value in cells.items() if name and (value or name not in GOALS)}
    shown = (number, cells.get("nome_completo", ""), cells.get("email", ""))
    try:
        return Line(*shown, checked(Row, given, BY_HAND).model_dump())
    except InvalidInputError as err:
        return Line(*shown, None, tuple(f"{e['field']}: {e['message']}" for e in err.errors))
