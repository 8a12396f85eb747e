"""gunicorn's settings and hooks; `gunicorn wsgi:app` reads this file by itself."""

import gc

gc.disable()  # while modules load: collections of a growing heap take a tenth of the start

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import build_app
from core.gunicorn_worker import SlowClientThreadWorker
from core.logging import GUNICORN
from web import startup

settings = startup.load_settings(os.environ)

gc.freeze()  # what is loaded stays, so that no collection needs to scan it
gc.enable()

bind = settings.bind


class NoAccessLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """Logs the server, not every request: requests are counted, and their changes are logged."""

    access_log_enabled = False


logger_class = NoAccessLogger
workers = settings.web_concurrency
threads = settings.web_threads
worker_class = SlowClientThreadWorker
logconfig_dict = GUNICORN
timeout = 30
graceful_timeout = 10
keepalive = 15
limit_request_line = 8_190  # gunicorn's maximum: handshake results of Clerk come in the URL
limit_request_fields = 100
limit_request_field_size = 32_768  # the app refuses longer tokens itself, with a 401
# By default gunicorn trusts X-Forwarded-Proto from 127.0.0.1. Only ProxyFix may decide, by the
# number of proxies in TRUSTED_PROXIES.
forwarded_allow_ips = ""
control_socket_disable = True


def on_starting(server: Any) -> None:
    """In the master, before the start: check settings and ports, and prepare the database."""
    command = server.START_CTX["args"]
    if Path(command[1]).name == "__main__.py":  # an upgrade would run it in gunicorn's package
        command[1:2] = ["-m", "gunicorn"]
    server.reload = partial(start_again, server)
    startup.start_logging(settings)
    startup.refuse_exposed_development_provider(settings, server.cfg.address)
    startup.warn_of_insecure_settings(settings)
    startup.refuse_busy_ports(server.cfg.address, server.cfg.env_orig)
    startup.start_metrics(settings, is_upgrade=server.master_pid != 0)
    startup.prepare_database(settings, build_app)


def start_again(server: Any) -> None:
    """In the master, after SIGHUP: stop the workers, and start again as a new program.

    gunicorn's own reload forks the new workers from this process, which has the code of the old
    version loaded. The process id stays. New connections wait in the open sockets meanwhile.
    """
    sockets, server.LISTENERS = server.LISTENERS, []  # so that they are not closed
    server.stop()
    environment = server.cfg.env_orig | {
        "GUNICORN_PID": str(server.pid),
        "GUNICORN_FD": ",".join(str(each.fileno()) for each in sockets),
    }
    os.chdir(server.START_CTX["cwd"])
    os.execvpe(server.START_CTX[0], server.START_CTX["args"], environment)  # noqa: S606 # nosec B606


def when_ready(server: Any) -> None:
    """In the master, when the port is open: check the sockets, which may be inherited."""
    startup.refuse_exposed_development_provider(
        settings, [s.sock.getsockname() for s in server.LISTENERS]
    )
    startup.print_banner(settings, server.cfg.address)


def pre_fork(_: Any, __: Any) -> None:
    """In the master: leave its objects out of collections, which would copy their memory pages."""
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """In each worker, after the fork: connect, then start the job runner and the scheduler."""
    app = worker.app.wsgi()
    startup.connect_worker(app)
    # Objects that are loaded by now stay, so the garbage collector need not scan them again.
    gc.collect()
    gc.freeze()
    # The worker leaves after SIGTERM or max_requests: its requests have some seconds left, and
    # another process continues the sweep.
    worker.stop_background_work = startup.start_background_work(
        app, sweeps=settings.scheduler, is_process_stopping=lambda: not worker.alive
    )


def worker_exit(_: Any, worker: Any) -> None:
    """In each worker, at its end: stop the job runner and the scheduler, so that it can exit.

    After Ctrl-C two signals come, from the terminal and from the master; the second is ignored.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(worker, "stop_background_work"):  # not if its start has failed
        worker.stop_background_work()
