"""The house keeps its shape: imports go one way, and each thing has its one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent

# What each room may import of ours. A room that is not listed here fails the tests.
ARROWS = {
    "config": {"core"},
    "discretion": set(),
    "logs": {"discretion"},
    "instance": set(),
    "embedded": {"instance"},
    "deadlines": set(),
    "shapes": set(),
    "server_status": set(),
    "connections": {"deadlines"},
    "connection_pool": {"connections", "deadlines", "server_status"},
    "extensions": {"connection_pool", "deadlines"},
    "models": {"extensions"},
    "demo": {"dashboard", "models"},
    "provisioning": {"core", "extensions", "models"},
    "dashboard": {"extensions", "models", "shapes"},
    "metrics": set(),
    "identity": {"core", "instance", "metrics", "provisioning"},
    "session_context": {"models", "provisioning", "shapes"},
    "context_cache": {
        *("core", "extensions", "flights", "metrics", "models", "provisioning", "session_context"),
    },
    "flights": set(),
    "leases": set(),
    "allowance": {"core", "leases"},
    "identity_refresh": {"deadlines", "extensions", "identity", "provisioning"},
    "perseverance": {
        *("connection_pool", "extensions", "metrics", "models", "provisioning", "server_status"),
    },
    "chronicle": {"metrics", "provisioning"},
    "gauges": {"extensions", "models", "provisioning"},
    "guarantee": {
        *(
            "chronicle",
            "context_cache",
            "extensions",
            "flights",
            "identity",
            "identity_refresh",
            "models",
        ),
        *("perseverance", "provisioning", "session_context"),
    },
    "core": set(),
    "house": {
        *("allowance", "config", "flights", "gauges", "guarantee", "identity"),
        *("identity_refresh", "job_runner"),
    },
    "job_runner": {"deadlines", "extensions", "models", "provisioning"},
    "health": {"connection_pool", "extensions", "provisioning"},
    "doctor": {"config", "database_errors", "extensions", "health", "house", "provisioning"},
    "directory_sync": {"extensions", "guarantee", "identity", "provisioning"},
    "doorman": set(),
    "support": {
        *("config", "context_cache", "core", "doctor", "extensions", "house", "identity"),
        *("models", "provisioning"),
    },
    "adopting": {"extensions"},
    "database_errors": {"adopting", "extensions", "health", "house", "provisioning"},
    "adoption_trial": {"dashboard", "provisioning"},
    "adopt_command": {"adopting", "database_errors"},
    "shell": {"extensions", "house", "models", "provisioning"},
    "scheduler": {"extensions", "guarantee", "metrics", "provisioning"},
    "blueprints": {
        *(
            "allowance",
            "config",
            "core",
            "dashboard",
            "deadlines",
            "extensions",
            "health",
            "house",
            "identity",
        ),
        *("metrics", "models", "provisioning", "session_context", "shapes"),
    },
    "cli": {
        *("adopting", "database_errors", "demo", "extensions", "health", "house", "identity"),
        *("metrics", "models", "provisioning", "directory_sync", "scheduler", "support"),
    },
    "app": {
        *(
            "adopt_command",
            "allowance",
            "blueprints",
            "cli",
            "config",
            "connection_pool",
            "connections",
            "context_cache",
            "deadlines",
            "embedded",
            "extensions",
        ),
        *(
            "flights",
            "gauges",
            "guarantee",
            "house",
            "identity",
            "identity_refresh",
            "instance",
            "job_runner",
            "models",
            "perseverance",
        ),
        *("provisioning", "server_status", "service", "shell", "support"),
    },
    "service": set(),
    "launch": {
        *("app", "config", "connection_pool", "embedded", "extensions", "identity", "metrics"),
        "provisioning",
    },
    "wsgi": {"config", "launch", "logs"},
    "gunicorn.conf": {"config", "doorman", "house", "launch", "logs", "scheduler"},
}
OUTSIDE = {"tests", "benchmarks", "tools", "migrations", "locustfile"}


def sources() -> list[Path]:
    paths = [p.relative_to(PROJECT) for p in PROJECT.rglob("*.py")]
    ours = [p for p in paths if not p.parts[0].startswith(".") and p.parts[0] != "instance"]
    return sorted(p for p in ours if p.parts[0].removesuffix(".py") not in OUTSIDE)


def tree(path: Path) -> ast.Module:
    return ast.parse((PROJECT / path).read_text())


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield node.module or ""


def calls(path: Path) -> Iterator[str]:
    nodes = (n for n in ast.walk(tree(path)) if isinstance(n, ast.Call | ast.Attribute))
    yield from (ast.unparse(n.func if isinstance(n, ast.Call) else n) for n in nodes)


SOURCES = sources()
everywhere = pytest.mark.parametrize("path", SOURCES, ids=str)


@everywhere
def test_imports_go_one_way(path: Path) -> None:
    own = {name.split(".")[0] for name in imported(path)} & set(ARROWS)

    assert own - {room(path)} <= ARROWS[room(path)]


def test_arrows_have_no_circle() -> None:
    left = {name: set(targets) for name, targets in ARROWS.items()}
    while free := {name for name, targets in left.items() if not targets}:
        left = {name: targets - free for name, targets in left.items() if name not in free}

    assert left == {}


@everywhere
def test_imports_stand_at_the_top(path: Path) -> None:
    functions = (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef))
    inner = [
        n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)
    ]

    assert inner == []


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parts[0] in ("provisioning", "dashboard", "models")], ids=str
)
def test_rules_know_nothing_of_the_web(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}

    assert roots.isdisjoint({"flask", "werkzeug", "jwt", "requests", "urllib"})


@everywhere
def test_identity_takes_only_the_value_and_no_sql(path: Path) -> None:
    names = set(imported(path)) if room(path) == "identity" else set()

    assert {n for n in names if n.startswith("provisioning")} <= {"provisioning.identity"}
    assert not any(n.startswith("sqlalchemy") for n in names)


@everywhere
def test_one_place_commits(path: Path) -> None:
    commits = [call for call in calls(path) if call.endswith(".commit")]

    assert commits == [] or room(path) == "extensions"


@everywhere
def test_one_place_reads_the_environment(path: Path) -> None:
    reads = [c for c in calls(path) if c.startswith(("os.environ", "os.getenv"))]

    # The two doors hand their environment to config.load_config as a whole; a library that knows
    # no other way is told there where to count.
    allowed = room(path) in ("wsgi", "gunicorn.conf", "metrics")
    assert reads == [] or (allowed and reads == ["os.environ"])


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parts[0] in ("provisioning", "dashboard", "models")], ids=str
)
def test_no_clock_below_the_doors(path: Path) -> None:
    clocks = ("datetime.now", "datetime.utcnow", "time.time", "date.today", "time.monotonic")

    assert [c for c in calls(path) if c in clocks] == []


@everywhere
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))
