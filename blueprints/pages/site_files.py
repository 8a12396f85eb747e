"""Files that browsers and crawlers look for at the root of the site."""

from flask import Blueprint, Response, current_app

from web.access_policy import public_unlimited

site_files = Blueprint("site_files", __name__)

ONE_DAY_SECONDS = 86_400


@site_files.get("/<any('favicon.ico', 'robots.txt'):name>")
@public_unlimited
def root_file(name: str) -> Response:
    """Return `/favicon.ico` or `/robots.txt` from the static folder."""
    response = current_app.send_static_file(name)
    response.cache_control.max_age = ONE_DAY_SECONDS
    return response
