"""Read the signed-in user's profile, report and export."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import structlog
from flask import g
from pydantic import ValidationError
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import transaction
from dashboard.months import OwnProfile, StoredReport, read_report, report_from_text, report_to_text
from dashboard.periods import Period, current_period, working_period
from provisioning.context import READY
from provisioning.personal_data import PersonExport, export_person, find_person
from provisioning.retry import is_outage
from web.errors import ProfileRequiredError
from web.request_context import ensure_context
from web.services import services

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def with_own_profile(
    work: Callable[[Session, OwnProfile], Result],
    *,
    is_single_statement: bool = False,
    is_repeated: bool = False,
) -> Result:
    """Run the work in a transaction with the signed-in user's profile, and return its result.

    When the work raises NoResultFound, because the profile is gone or has another owner since the
    request context was cached, the profile is ensured again and the work is repeated once.
    `is_single_statement` is for work of one statement. Raises ProfileRequiredError if there is no
    profile then, and what the work raises.
    """
    own = OwnProfile(g.context.mentorado["id"], g.context.user["id"])
    try:
        with transaction(is_single_statement=is_single_statement) as session:
            return work(session, own)
    except NoResultFound:
        if is_repeated:
            raise
    ensure_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return with_own_profile(work, is_single_statement=is_single_statement, is_repeated=True)


def period_due() -> Period:
    """Return the month that «Métricas» opens for the signed-in user, who has a profile.

    It is the `working_period`; in the month in which the mentee has joined, always that month.
    """
    joined_at, now = datetime.fromisoformat(g.context.mentorado["created_at"]), services().now()
    current = current_period(now)
    return working_period(now) if current_period(joined_at) < current else current


def own_report(until: Period | None = None) -> StoredReport:
    """Return the signed-in user's report, up to a month; during a database outage the last copy.

    Raises ProfileRequiredError if the profile is gone, and the database's error if there is no
    copy, or none that reaches back to the month.
    """
    now = services().now()
    try:
        report = with_own_profile(
            lambda s, own: read_report(s, own.id, owner_id=own.user_id, until=until),
            is_single_statement=True,
        )
    except SQLAlchemyError as err:
        if not is_outage(err):
            raise
        return _report_from_copy(err, until)
    stored = StoredReport(report, now)
    if until is None:
        services().provisioning.contexts.put_dashboard_copy(g.context, report_to_text(stored))
    return stored


def own_export() -> PersonExport:
    """Return what is kept about the user; raises ProfileRequiredError for one not stored."""
    user_id = g.context.user["id"]
    if user_id is None:
        raise ProfileRequiredError(g.context.status)
    with transaction() as session:
        return export_person(session, find_person(session, user_id), now=services().now())


def _report_from_copy(err: SQLAlchemyError, until: Period | None) -> StoredReport:
    copy = services().provisioning.contexts.get_dashboard_copy(g.context.user["clerk_id"])
    try:
        stored = report_from_text(copy.report_text) if copy else None
    except ValidationError:
        stored = None  # written by another version of the program
    if stored is None:
        raise err
    if until is not None:
        months = stored.report.months
        if not months or until < months[0].period:
            raise err
        stored = replace(stored, report=stored.report.until(until))
    log.warning("read_only_answer", error=type(err).__name__)
    return stored
