"""The admin console's work list of a month: who has reported, who has feedback, who is missing."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from blueprints.api.admin_months import WorkPage, next_cursor, read_page
from core.database import transaction
from dashboard.periods import Period, current_period, working_period
from dashboard.work_list import WorkFilter, WorkOrder, count_work, list_work
from web.access_policy import admin_required
from web.flashes import flash_user
from web.formatting import month_name
from web.month_input import MONTH, YEAR, requested_period
from web.services import services
from web.validation import read_query

console = Blueprint("console", __name__, url_prefix="/admin")

PAGE_SIZE = 50
MOST_ADDRESSES = 1_000  # shown to be copied; mail programs take fewer
FILTERS = {
    None: "Todos",
    WorkFilter.NO_METRICS: "Sem métricas",
    WorkFilter.NO_FEEDBACK: "Sem feedback",
    WorkFilter.NO_ACCESS: "Sem acesso",
    WorkFilter.LOW_SCORE: "Abaixo de 30",
}
ORDERS = {
    WorkOrder.NAME: "Nome",
    WorkOrder.SCORE: "Pontos",
    WorkOrder.LAST_VISIT: "Último acesso",
}


@console.get("")
@admin_required
def overview() -> ResponseReturnValue:
    """Show the work list of the month that mentors work on."""
    return _render(working_period(services().now()))


@console.get(f"/meses/<{YEAR}:ano>/<{MONTH}:mes>")
@admin_required
def month(ano: int, mes: int) -> ResponseReturnValue:
    """Show the work list of a month."""
    return _render(requested_period(ano, mes))


@console.get(f"/meses/<{YEAR}:ano>/<{MONTH}:mes>/emails")
@admin_required
def addresses(ano: int, mes: int) -> ResponseReturnValue:
    """Show the addresses of a filter's mentees, to be copied into a mail program."""
    period, query = requested_period(ano, mes), read_query(WorkPage)
    with transaction() as session:
        items = list_work(session, period, work_filter=query.filter, limit=MOST_ADDRESSES + 1)
    found = [item.email for item in items[:MOST_ADDRESSES] if item.email]
    return render_template(
        "console_addresses.html",
        period=period,
        query=query,
        filters=FILTERS,
        addresses=list(dict.fromkeys(found)),
        without=sum(not item.email for item in items[:MOST_ADDRESSES]),
        is_cut=len(items) > MOST_ADDRESSES,
    )


@console.get(f"/meses/<{YEAR}:ano>/<{MONTH}:mes>/escrever")
@admin_required
def write(ano: int, mes: int) -> ResponseReturnValue:
    """Open the writing view of the first mentee who has reported and has no feedback."""
    period = requested_period(ano, mes)
    with transaction() as session:
        first = list_work(session, period, work_filter=WorkFilter.TO_WRITE, limit=1)
    if not first:
        flash_user(f"Todos que registraram {month_name(mes, ano)} têm feedback.")
        return redirect(url_for(".month", ano=ano, mes=mes))
    return redirect(url_for("console_feedback.edit", mentorado_id=first[0].id, ano=ano, mes=mes))


def _render(period: Period) -> ResponseReturnValue:
    query = read_query(WorkPage).model_copy(update={"limit": PAGE_SIZE})
    with transaction() as session:
        counts = count_work(session, period)
        items = read_page(session, period, query)
    return render_template(
        "console_month.html",
        period=period,
        following=period.plus(1) if period < current_period(services().now()) else None,
        query=query,
        filters=FILTERS,
        orders=ORDERS,
        counts=counts,
        items=items,
        cursor=next_cursor(items, query),
    )
