"""Imports are declared in pyproject.toml, and the lock files hold what each purpose needs."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from benchmarks.servers import PROJECT

PRODUCT = (
    *("core", "models", "auth", "provisioning", "dashboard", "sweep", "web", "blueprints", "cli"),
    *("migrations", "app.py", "wsgi.py", "gunicorn.conf.py"),
)
DEVELOPMENT = ("dev", "benchmarks", "scripts", "tests", "locustfile.py")
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = METADATA["optional-dependencies"]
OWN_MODULES = {path.stem.partition(".")[0] for path in PROJECT.iterdir()}
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
LOCKS = ("requirements.lock", "requirements-run.lock", "requirements-dev.lock")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    """Return the distributions of these requirements."""
    return {normalized(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def sources(parts: tuple[str, ...]) -> Iterator[Path]:
    for part in parts:
        path = PROJECT / part
        yield from path.rglob("*.py") if path.is_dir() else [path]


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the top-level names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def undeclared(parts: tuple[str, ...], declared_names: set[str]) -> set[str]:
    """Return the imported modules of which no distribution is declared."""
    distributions = packages_distributions()
    modules = {name for path in sources(parts) for name in imported_modules(path)}
    foreign = modules - sys.stdlib_module_names - OWN_MODULES
    return {
        name
        for name in foreign
        if declared_names.isdisjoint(map(normalized, distributions.get(name, ())))
    }


def pins(lock: str) -> dict[str, str]:
    """Return the versions that a lock file pins, by distribution."""
    return {
        normalized(name): version for name, version in PINNED.findall((PROJECT / lock).read_text())
    }


def test_product_imports_only_declared_dependencies() -> None:
    assert undeclared(PRODUCT, declared(METADATA["dependencies"])) == set()


def test_development_imports_only_declared_dependencies() -> None:
    requirements = [*METADATA["dependencies"], *EXTRAS["dev-db"], *EXTRAS["dev"]]

    assert undeclared(DEVELOPMENT, declared(requirements)) == set()


def test_production_lock_has_no_development_part() -> None:
    development = declared(EXTRAS["dev-db"]) | {"pytest", "playwright", "locust", "requests"}

    assert pins("requirements.lock").keys() & development == set()


@pytest.mark.parametrize(("smaller", "larger"), [LOCKS[:2], LOCKS[1:]])
def test_larger_lock_pins_the_same_versions(smaller: str, larger: str) -> None:
    assert pins(smaller).items() - pins(larger).items() == set()


def test_lock_of_make_run_has_the_embedded_database() -> None:
    assert declared(EXTRAS["dev-db"]) <= pins("requirements-run.lock").keys()
