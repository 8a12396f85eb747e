"""The parent process of the embedded database: stops it when no process uses it any more.

`dev/postgres.py` starts it as a script with the instance folder and the server's command. A user
process stops the server at its exit, but a killed one cannot. It needs only the standard library,
so that it starts in some hundredths of a second.
"""

import fcntl
import signal
import subprocess  # nosec B404
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

CHECK_SECONDS = 1.0
STOPPING_SECONDS = 20


def main(folder: str, *command: str) -> int:
    """Run the server until it ends, and return its exit code."""
    server = subprocess.Popen(command)  # nosec B603 - from dev/postgres.py
    threading.Thread(target=stop_unused, args=(Path(folder), server), daemon=True).start()
    return server.wait()


def stop_unused(folder: Path, server: "subprocess.Popen[bytes]") -> None:
    """Stop the server as soon as no process uses it, or its folder is deleted."""
    is_stopped = False
    while not is_stopped:
        time.sleep(CHECK_SECONDS)
        try:
            # Keeps other processes from starting or joining the server during the check.
            with (folder / "postgres.lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                is_stopped = is_unused(folder)
                if is_stopped:
                    stop(server)
        except FileNotFoundError:
            is_stopped = True
            stop(server)


def is_unused(folder: Path) -> bool:
    """Whether no process holds the lock that each user of the server holds."""
    with (folder / "postgres.users").open("a") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server; if it does not end in time, without a checkpoint."""
    for signum in (signal.SIGINT, signal.SIGQUIT):
        server.send_signal(signum)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOPPING_SECONDS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
