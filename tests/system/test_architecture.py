"""The layers of docs/architecture.md: packages import downward only; effects have one module."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from benchmarks.servers import PROJECT

# Lowest first; a package may import those before it, and itself.
LAYERS = (
    *("core", "models", "auth", "provisioning", "dashboard", "sweep", "web", "blueprints", "cli"),
    *("app", "wsgi", "gunicorn.conf"),
)
ROOT_MODULES = {"app.py", "wsgi.py", "gunicorn.conf.py", "locustfile.py"}
DEVELOPMENT = "dev"
MAY_IMPORT_DEVELOPMENT = {"app", "blueprints", "cli", "web"}
DEVELOPMENT_MAY_IMPORT = {"core", "models", "auth", "dashboard"}
WITHOUT_CLOCK = ("provisioning", "dashboard", "models")
CLOCKS = ("datetime.now", "datetime.utcnow", "time.time", "date.today")
FRAMEWORKS = {"flask", "werkzeug"}


def product_files() -> list[Path]:
    """Return the Python files of the product, relative to the project."""
    files = [path.relative_to(PROJECT) for path in PROJECT.rglob("*.py")]
    return sorted(path for path in files if layer(path) in (*LAYERS, DEVELOPMENT))


def layer(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse((PROJECT / path).read_text())


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports; for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> set[str]:
    nodes = (n for n in ast.walk(tree(path)) if isinstance(n, ast.Call | ast.Attribute))
    return {ast.unparse(n.func if isinstance(n, ast.Call) else n) for n in nodes}


FILES = product_files()


def test_packages_import_downward_only() -> None:
    upward = [
        f"{path} imports {name}"
        for path in FILES
        if layer(path) in LAYERS
        for name in imported(path)
        if (package := name.split(".")[0]) in LAYERS
        and LAYERS.index(package) > LAYERS.index(layer(path))
    ]

    assert upward == []


def test_benchmarks_and_scripts_import_no_tests() -> None:
    files = [path for folder in ("benchmarks", "scripts") for path in Path(folder).rglob("*.py")]
    names = {f"{path} imports {name}" for path in files for name in imported(path)}

    assert files != []
    assert {each for each in names if " imports tests" in each} == set()


def test_development_package_is_imported_by_few_packages() -> None:
    layers = {
        layer(path)
        for path in FILES
        if any(name.split(".")[0] == DEVELOPMENT for name in imported(path))
    }

    assert layers - {DEVELOPMENT} <= MAY_IMPORT_DEVELOPMENT


def test_development_package_imports_lower_packages_only() -> None:
    above = {*LAYERS, "tests"} - DEVELOPMENT_MAY_IMPORT

    names = {name for path in FILES if layer(path) == DEVELOPMENT for name in imported(path)}

    assert {name for name in names if name.split(".")[0] in above} == set()


def test_modules_have_no_import_cycle() -> None:
    names = {module(path) for path in FILES}
    graph = {module(path): set(imported(path)) & names - {module(path)} for path in FILES}

    assert list(TopologicalSorter(graph).static_order())


def test_root_has_only_the_expected_modules() -> None:
    assert {path.name for path in PROJECT.glob("*.py")} == ROOT_MODULES


def test_functions_contain_no_imports() -> None:
    inner = [
        str(path)
        for path in FILES
        for function in ast.walk(tree(path))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert inner == []


def test_packages_below_web_import_no_web_framework() -> None:
    below = LAYERS[1 : LAYERS.index("web")]
    offenders = [
        str(path)
        for path in FILES
        if layer(path) in below and FRAMEWORKS & {n.split(".")[0] for n in imported(path)}
    ]

    assert not offenders


def test_one_module_commits() -> None:
    modules = {str(path) for path in FILES if any(c.endswith(".commit") for c in calls(path))}

    assert modules == {"core/database.py"}


def test_environment_is_read_by_the_entry_points_only() -> None:
    product = [path for path in FILES if layer(path) != DEVELOPMENT]
    reads = {str(path) for path in product if any(c.startswith("os.environ") for c in calls(path))}

    # The entry points pass it to core.config; the Prometheus client reads its folder from it.
    assert reads <= {"app.py", "gunicorn.conf.py", "core/metrics.py"}


def test_domain_packages_read_no_clock() -> None:
    clocks = [
        f"{path}: {call}"
        for path in FILES
        if layer(path) in WITHOUT_CLOCK
        for call in calls(path)
        if call in CLOCKS
    ]

    assert clocks == []


def test_every_module_has_a_docstring() -> None:
    assert [str(path) for path in FILES if not ast.get_docstring(tree(path))] == []
