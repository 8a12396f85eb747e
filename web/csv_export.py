"""CSV downloads, streamed in batches by key, so that memory stays constant for any length."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from flask import Flask, Response, current_app
from pydantic import InstanceOf, WithJsonSchema
from sqlalchemy.orm import Session

from core import long_responses
from core.database import background_transaction
from dashboard.periods import BRASILIA

BATCH_ROWS = 1_000
BATCH_SECONDS = 5.0  # of the database, for one batch
BOM = "\ufeff"  # tells Excel that the file is UTF-8
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

MEDIA_TYPE = "text/csv"

# The response type of an API operation that sends a CSV file.
CsvFile = Annotated[InstanceOf[Response], WithJsonSchema({"type": "string"}), MEDIA_TYPE]
Key = TypeVar("Key")
Cell = str | int | bool | datetime | None
Row = Sequence[Cell]
# Takes the key of the last row before (None at first) and the most rows to read; returns the next
# rows and the key of the last one, or None as key where no rows follow.
ReadBatch = Callable[[Session, Key | None, int], tuple[Sequence[Row], Key | None]]


def csv_response(file_name: str, titles: Sequence[str], read_batch: ReadBatch[Key]) -> Response:
    """Stream a CSV file of all batches, with a BOM and `;`, as a download.

    Each batch is read in a transaction of its own, so that a slow client holds no connection. The
    first one is read before the response starts: an error then has its status and code. A later
    error ends the download before its end, which HTTP clients notice. The later batches are read
    without the request's context, which a client that stops reading would keep open.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - documented by Flask
    first = _read(app, read_batch, None)

    def chunks() -> Iterator[str]:
        rows, key = first
        yield BOM + write_rows([titles, *rows])
        while key is not None:
            rows, key = _read(app, read_batch, key)
            long_responses.renew_response()
            yield write_rows(rows)

    response = Response(chunks(), content_type=f"{MEDIA_TYPE}; charset=utf-8")
    response.headers.set("Content-Disposition", "attachment", filename=file_name)
    return response


def csv_file(file_name: str, rows: Sequence[Row]) -> Response:
    """Return a short CSV file, whose rows are in memory, as a download."""
    response = Response(BOM + write_rows(rows), content_type=f"{MEDIA_TYPE}; charset=utf-8")
    response.headers.set("Content-Disposition", "attachment", filename=file_name)
    return response


def write_rows(rows: Sequence[Row]) -> str:
    """Return the rows as lines of CSV."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=";").writerows([_cell_text(cell) for cell in row] for row in rows)
    return lines.getvalue()


def _read(
    app: Flask, read_batch: ReadBatch[Key], key: Key | None
) -> tuple[Sequence[Row], Key | None]:
    with app.app_context(), background_transaction(BATCH_SECONDS) as session:
        return read_batch(session, key, BATCH_ROWS)


def _cell_text(cell: Cell) -> str:
    """Return a cell as people read it; one that a spreadsheet would run is prefixed with `'`.

    Rule: `docs/reference/contract.md#csv-files`. It has no exception for negative numbers.
    """
    match cell:
        case None:
            text = ""
        case bool():
            text = "sim" if cell else "não"
        case datetime():
            text = cell.astimezone(BRASILIA).strftime("%Y-%m-%d %H:%M:%S")
        case _:
            text = str(cell)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
