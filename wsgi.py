"""The WSGI entry point of gunicorn and of the flask command."""

import gc

gc.disable()  # while modules load: collections of a growing heap take a tenth of the start

import os
import sys

from app import build_app
from core.config import ConfigError, load_config
from core.logging import configure_logs
from web.startup import refuse_exposed_development_server

try:
    config = load_config(os.environ)
except ConfigError as err:
    sys.exit(f"neon-dashboard: {err}")

refuse_exposed_development_server(config)
configure_logs(config.log_format, is_production=config.is_production)
app = build_app(config)
gc.freeze()  # what is loaded stays, so that no collection needs to scan it
gc.enable()
