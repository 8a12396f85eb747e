"""The admin console's search: accounts and pre-registered profiles together."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from core.database import transaction
from provisioning.queries import MenteeKind, list_mentees, list_users
from web.access_policy import admin_required
from web.admin_labels import STATES
from web.search import search_term
from web.validation import Search, read_query

console_search = Blueprint("console_search", __name__, url_prefix="/admin/busca")

MOST_RESULTS = 20  # of accounts and of profiles; the lists have the others


@console_search.get("")
@admin_required
def search() -> ResponseReturnValue:
    """Find accounts and pre-registered profiles; a single result is opened at once.

    A profile with an account is found as its account.
    """
    query = read_query(Search)
    term = search_term(query.q)
    if term is None:
        return render_template("console_search.html", search_text="", users=(), profiles=())
    with transaction() as session:
        users = list_users(session, search=term, limit=MOST_RESULTS + 1)
        profiles = list_mentees(
            session, kind=MenteeKind.UNLINKED, search=term, limit=MOST_RESULTS + 1
        )
    if len(users) + len(profiles) == 1:
        if users:
            return redirect(url_for("console_users.show", user_id=users[0].user.id))
        return redirect(url_for("console_mentees.show", mentorado_id=profiles[0].id))
    return render_template(
        "console_search.html",
        search_text=query.q,
        users=users,
        profiles=profiles,
        states=STATES,
        most=MOST_RESULTS,
    )
