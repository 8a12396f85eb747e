"""Create the virtual environment and install one lock file: `python3 scripts/install.py LOCK`.

It uses the standard library only. It exits with one line if the machine lacks something, and prints
nothing if the lock is installed already.
"""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)


def main(lock_name: str) -> None:
    """Install the lock file unless the same content is installed already."""
    lock = PROJECT / lock_name
    stamp = VENV / f"{lock_name}.installed"
    content = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == content:
        return
    refuse_unfit_machine()
    print(f"Installing {lock_name} (only when it has changed)…", flush=True)
    if not has_pip():
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", str(lock)])
    stamp.write_text(content)


def refuse_unfit_machine(oldest: tuple[int, int] = OLDEST, venv: Path = VENV) -> None:
    """Exit with one line that names what this machine lacks."""
    if sys.version_info < oldest:
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(
            f"Python 3.11 or newer is needed, this is {found}; try: make PYTHON=python3.12 run"
        )
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        sys.exit("Python's venv module is missing; on Debian: apt install python3-venv")
    try:
        venv.mkdir(exist_ok=True)
        (venv / ".writable").write_text("")
    except OSError as err:
        sys.exit(f"{PROJECT} cannot be written ({err.strerror}); clone into a folder of your own")


def has_pip() -> bool:
    """Whether the environment is complete; an interrupted first start leaves it without pip."""
    if not PYTHON.exists():
        return False
    probe = [str(PYTHON), "-m", "pip", "--version"]
    found = subprocess.run(probe, check=False, capture_output=True)  # nosec B603 # no shell
    return found.returncode == 0


def run(command: list[str]) -> None:
    """Run a command, and exit with its exit code if it fails; it prints its own error."""
    finished = subprocess.run(command, check=False)  # nosec B603 # fixed arguments, no shell
    if finished.returncode:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    main(sys.argv[1])
