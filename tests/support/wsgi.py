"""The WSGI app with longer time limits, for the server processes of servers.py."""

from core import deadlines
from tests.support.time_limits import TIME_LIMIT_SCALE
from wsgi import app

__all__ = ["app"]

deadlines.set_scale(TIME_LIMIT_SCALE)
