"""The work list of a month for admins: who has reported, who has feedback; also as CSV."""

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated

from flask import Blueprint
from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.database import transaction
from core.types import Timestamp, one_of
from dashboard.mentoring import Position, WorkFilter, WorkItem, WorkOrder, list_work
from dashboard.periods import Period, working_period
from web.access_policy import admin_required
from web.api import Listed, api_operation, serialize_row
from web.csv_export import CsvFile, Row, csv_response
from web.month_input import MONTH, YEAR, MonthNumber, TypedMonth, Year, requested_period
from web.services import services
from web.validation import CURSOR_DESCRIPTION, MAX_PAGE_SIZE, Limit, Query, Text

admin_months = Blueprint("admin_months", __name__, url_prefix="/api/admin")

CSV_COLUMNS = {
    "Número": "id",
    "Nome": "name",
    "E-mail": "email",
    "Registrou": "has_metrics",
    "Pontos": "score",
    "Variação": "change",
    "Feedback": "has_feedback",
    "Último acesso": "last_visit",
}
csv_row = attrgetter(*CSV_COLUMNS.values())
NAME_CURSOR = re.compile(r"\d{1,10}:[^\x00]{0,1000}", re.ASCII)  # `17:ana lima`
NUMBER_CURSOR = re.compile(r"\d{1,10}:-?\d{1,12}", re.ASCII)  # `17:80`


def _check_cursor(text: str | None, info: ValidationInfo) -> str | None:
    pattern = NAME_CURSOR if info.data.get("sort") is WorkOrder.NAME else NUMBER_CURSOR
    if text is not None and not pattern.fullmatch(text):
        raise PydanticCustomError("cursor", "no cursor of this order")
    return text


class WorkQuery(Query):
    """Filter and order of a work list."""

    filter: Annotated[WorkFilter | None, one_of(WorkFilter)] = None
    sort: Annotated[WorkOrder, one_of(WorkOrder)] = WorkOrder.NAME


class WorkPage(WorkQuery):
    """A page of a work list."""

    cursor: Annotated[
        Text, AfterValidator(_check_cursor), Field(description=CURSOR_DESCRIPTION)
    ] = None
    limit: Limit = MAX_PAGE_SIZE

    @property
    def after(self) -> Position | None:
        """The position that the cursor names."""
        if self.cursor is None:
            return None
        number, _, key = self.cursor.partition(":")
        return key if self.sort is WorkOrder.NAME else int(key), int(number)


class MonthDownload(WorkQuery):
    """The month of a download, by default that of the current work list."""

    mes: TypedMonth = None


class WorkItemShape(TypedDict):
    """One active mentee in the month; `score` and `change` are null without metrics.

    `change` is the difference to the score of the month before.
    """

    id: int
    user_id: int | None
    nome_completo: str
    email: str | None
    has_metrics: bool
    score: int | None
    change: int | None
    has_feedback: bool
    last_visit: Timestamp | None


@admin_months.get(f"/months/<{YEAR}:ano>/<{MONTH}:mes>")
@admin_required
@api_operation("invalid_input")
def list_month(ano: Year, mes: MonthNumber, query: WorkPage) -> Listed[WorkItemShape]:
    """The work list of a month: what each active mentee has reported and what is missing."""
    period = requested_period(ano, mes)
    with transaction() as session:
        items = read_page(session, period, query)
    shapes = [serialize_row(WorkItemShape, item, nome_completo=item.name) for item in items]
    return {"items": shapes, "next_cursor": next_cursor(items, query)}


@admin_months.get("/months.csv")
@admin_required
@api_operation("invalid_input")
def download_month(query: MonthDownload) -> CsvFile:
    """The work list of a month as CSV."""
    period = query.mes or working_period(services().now())

    def read(
        session: Session, after: Position | None, limit: int
    ) -> tuple[Sequence[Row], Position | None]:
        items = list_work(
            session, period, work_filter=query.filter, order=query.sort, after=after, limit=limit
        )
        rows = [csv_row(item) for item in items]
        return rows, items[-1].position if len(items) == limit else None

    return csv_response(f"meses-{period.ano}-{period.mes:02}.csv", list(CSV_COLUMNS), read)


def read_page(session: Session, period: Period, query: WorkPage) -> list[WorkItem]:
    """Return the items of a page."""
    return list_work(
        session,
        period,
        work_filter=query.filter,
        order=query.sort,
        after=query.after,
        limit=query.limit,
    )


def next_cursor(items: Sequence[WorkItem], query: WorkPage) -> str | None:
    """Return the cursor of the next page; None where this one is not full."""
    if len(items) < query.limit:
        return None
    return f"{items[-1].id}:{items[-1].key}"
