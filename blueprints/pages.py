"""The pages of a mentee, complete as the server sends them."""

from flask import Blueprint, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from blueprints.own import own_overview
from blueprints.stance import own_dashboard, public_unlimited
from dashboard.chart import draw_chart
from dashboard.periods import current_period
from house import house

pages = Blueprint("pages", __name__)


@pages.get("/")
@public_unlimited
def home() -> ResponseReturnValue:
    """To the dashboard; whoever has no session is sent on from there."""
    return redirect(url_for("pages.dashboard"))


@pages.get("/dashboard")
@own_dashboard
def dashboard() -> ResponseReturnValue:
    """The mentee's own dashboard, usable at the very first request."""
    overview = own_overview()
    return render_template(
        "dashboard.html",
        mentorado=g.context.mentorado,
        overview=overview,
        chart=draw_chart(overview.months) if overview.months else None,
        this_month=current_period(house().now()),
    )
