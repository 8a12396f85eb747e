"""The WSGI entry point of gunicorn and of the flask command."""

import gc

gc.disable()  # while modules load: collections of a growing heap take a tenth of the start

from app import create_app

app = create_app()
gc.freeze()  # what is loaded stays, so that no collection needs to scan it
gc.enable()
