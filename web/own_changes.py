"""Changes by mentees of their own data, for pages and API alike."""

from flask import g
from sqlalchemy.exc import IntegrityError

from dashboard.deleted_months import delete_month
from dashboard.own_profile import rename
from dashboard.periods import Period
from provisioning.audit import Source
from provisioning.context import MentoradoShape, serialize_mentorado
from web.errors import HttpError
from web.request_context import with_own_profile
from web.services import services
from web.validation import Body, Name


class OwnProfileEdit(Body):
    """What mentees may change about their profile."""

    nome_completo: Name


def rename_own_profile(name: str, channel: str) -> MentoradoShape:
    """Write the signed-in user's name; the user's next request sees it in every process."""
    now, source = services().now(), Source(channel, g.request_id)
    renamed = with_own_profile(lambda s, own: rename(s, own, name, source=source, now=now))
    services().provisioning.contexts.publish([g.context.user["clerk_id"]])
    return serialize_mentorado(renamed)


def delete_own_month(period: Period, channel: str, *, seen: str | None = None) -> None:
    """Delete a month of the signed-in user; `seen` as in `delete_month`.

    Raises HttpError `not_found` if it was not reported, `conflict` if rows of another program refer
    to it, and MonthChangedError.
    """
    now, source = services().now(), Source(channel, g.request_id)
    try:
        month = with_own_profile(
            lambda s, own: delete_month(s, own, period, source=source, now=now, seen=seen)
        )
    except IntegrityError as err:
        raise HttpError("conflict", "other rows refer to the month") from err
    if month is None:
        raise HttpError("not_found", f"{period} is not reported")
