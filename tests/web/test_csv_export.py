"""CSV downloads are streamed in batches and safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from flask import Flask, Response
from sqlalchemy import select, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from core import long_responses
from web.csv_export import BATCH_ROWS, Row, csv_response, write_rows


def test_file_has_bom_semicolons_and_download_headers(app: Flask, connection: Connection) -> None:
    with app.test_request_context():
        response = csv_response("meses.csv", ["nome", "leads"], lambda *_: ([("Ana", 3)], None))

        assert response.get_data() == "\ufeffnome;leads\r\nAna;3\r\n".encode()
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["Content-Disposition"] == "attachment; filename=meses.csv"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_prefixed(start: str) -> None:
    content = write_rows([(f"{start}1+1",)])

    assert next(csv.reader(io.StringIO(content, newline="")))[0] == f"'{start}1+1"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (None, ""),
        (True, "sim"),
        (False, "não"),
        (500, "500"),
        (-500, "'-500"),
        ("a;b", '"a;b"'),
        ("duas\nlinhas", '"duas\nlinhas"'),
        (datetime(2026, 3, 10, 12, 0, 5, tzinfo=UTC), "2026-03-10 09:00:05"),
    ],
)
def test_cells_are_written_as_people_read_them(cell: str | None, expected: str) -> None:
    assert write_rows([("x", cell)]) == f"x;{expected}\r\n"


def test_batches_are_read_one_after_the_other_in_own_transactions(
    app: Flask, connection: Connection
) -> None:
    asked: list[int | None] = []

    def read(session: Session, key: int | None, limit: int) -> tuple[Sequence[Row], int | None]:
        asked.append(key)
        session.execute(select(1)).one()
        start = key or 0
        rows = [(number,) for number in range(start, min(start + limit, 2_500))]
        return rows, start + limit if start + limit < 2_500 else None

    with app.test_request_context():
        response = csv_response("numeros.csv", ["n"], read)
        asked_before_streaming = list(asked)
        lines = response.get_data(as_text=True).splitlines()

    assert asked_before_streaming == [None]
    assert asked == [None, BATCH_ROWS, 2 * BATCH_ROWS]
    assert lines[1:] == [str(number) for number in range(2_500)]


def test_each_batch_gives_the_client_time_to_receive_it(app: Flask, connection: Connection) -> None:
    renewals: list[None] = []
    long_responses.set_renewal(lambda: renewals.append(None))

    def read(_: Session, key: int | None, __: int) -> tuple[Sequence[Row], int | None]:
        number = (key or 0) + 1
        return [(number,)], number if number < 4 else None

    with app.test_request_context():
        csv_response("n.csv", ["n"], read).get_data()

    long_responses.set_renewal(lambda: None)
    assert len(renewals) == 3


def test_error_in_first_batch_is_raised_before_the_response(
    app: Flask, connection: Connection
) -> None:
    def fail(session: Session, *_: object) -> tuple[Sequence[Row], None]:
        session.execute(text("SELECT 1")).one()
        raise LookupError

    with app.test_request_context(), pytest.raises(LookupError):
        csv_response("nada.csv", ["n"], fail)


def test_client_that_reads_slowly_holds_no_connection(app: Flask, connection: Connection) -> None:
    def read(session: Session, key: int | None, _: int) -> tuple[Sequence[Row], int | None]:
        open_sessions.append(session)
        session.execute(select(1)).one()
        return [((key or 0),)], (key or 0) + 1

    open_sessions: list[Session] = []
    with app.test_request_context():
        response: Response = csv_response("numeros.csv", ["n"], read)
        chunks = response.iter_encoded()
        next(chunks)
        next(chunks)

        assert not any(session.in_transaction() for session in open_sessions)
        response.close()
