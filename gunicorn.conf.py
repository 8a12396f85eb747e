"""How the front door is served: `gunicorn wsgi:app` reads this by itself."""

import gc
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import build_app
from core.config import ConfigError, load_config
from core.gunicorn_worker import SlowClientThreadWorker
from core.logging import GUNICORN, configure_logs
from sweep import scheduler
from web import startup
from web.services import EXTENSION

try:
    settings = load_config(os.environ)
except ConfigError as err:
    sys.exit(f"neon-dashboard: {err}")

bind = settings.bind


class NoAccessLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """Speaks of the server, not of every request: those are counted, and tell what they change."""

    access_log_enabled = False


logger_class = NoAccessLogger
workers = settings.web_concurrency
threads = settings.web_threads
worker_class = SlowClientThreadWorker
logconfig_dict = GUNICORN
timeout = 30
graceful_timeout = 10
keepalive = 15
limit_request_line = 8_190  # as far as gunicorn goes: an answer of Clerk's comes in the address
limit_request_fields = 100
limit_request_field_size = 32_768  # the program itself refuses over-long tokens, with a 401
# gunicorn believes X-Forwarded-Proto from 127.0.0.1 unless told otherwise; ProxyFix alone decides,
# by the number of proxies in TRUSTED_PROXIES.
forwarded_allow_ips = ""
control_socket_disable = True

_clocks: dict[int, Any] = {}
_runners: dict[int, Any] = {}


def on_starting(server: Any) -> None:
    """In the master, before anything else: one clear line for what cannot work."""
    command = server.START_CTX["args"]
    if Path(command[1]).name == "__main__.py":  # an upgrade would start inside gunicorn's package
        command[1:2] = ["-m", "gunicorn"]
    configure_logs(settings.log_format, is_production=settings.is_production)
    startup.refuse_exposed_development_provider(settings, server.cfg.address)
    startup.warn_of_insecure_settings(settings)
    startup.refuse_busy_ports(server.cfg.address, server.cfg.env_orig)
    startup.start_metrics(settings, is_upgrade=server.master_pid != 0)
    startup.prepare_database(build_app(settings), settings)


def when_ready(server: Any) -> None:
    """In the master, as soon as the port is open; a socket may also be an inherited one."""
    startup.refuse_exposed_development_provider(
        settings, [s.sock.getsockname() for s in server.LISTENERS]
    )
    startup.print_banner(settings, server.cfg.address)


def post_worker_init(worker: Any) -> None:
    """In each worker, after the fork and with its app: connect, start the clock and the jobs."""
    app = worker.app.wsgi()
    startup.connect_worker(app)
    # What is loaded by now stays for good: no use in looking through all of it again and again.
    gc.collect()
    gc.freeze()
    _runners[worker.pid] = app.extensions[EXTENSION].jobs
    _runners[worker.pid].start(app, polls=settings.scheduler)
    if settings.scheduler:
        interval = timedelta(seconds=settings.sweep_interval_seconds)
        guarantee = app.extensions[EXTENSION].provisioning
        # From SIGTERM on, and after max_requests: requests have some seconds left, the sweep has
        # another process to go on with it.
        _clocks[worker.pid] = scheduler.start_scheduler(
            app, guarantee, interval, is_leaving=lambda: not worker.alive
        )


def worker_exit(_: Any, worker: Any) -> None:
    """In each worker, at its end: neither a job nor the clock must keep it alive."""
    runner = _runners.pop(worker.pid, None)
    if runner is not None:
        runner.stop()
    clock = _clocks.pop(worker.pid, None)
    if clock is not None:
        clock.stop()
