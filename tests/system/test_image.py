"""The container image has all that the app imports, and nothing that only development needs."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from benchmarks.servers import PROJECT
from blueprints.dev_clerk import PROXY_HEADERS
from core.config import Config
from scripts.image_check import FORBIDDEN, context_files, project_context, read_instructions

COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text())
CONTENT = set(project_context())


def test_image_has_every_module_that_it_imports() -> None:
    missing = []
    for path in (Path(file) for file in CONTENT if file.endswith(".py")):
        for node in ast.walk(ast.parse((PROJECT / path).read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            missing += [f"{path} imports {name}" for name in names if is_left_out(name)]

    assert missing == []


def is_left_out(name: str) -> bool:
    """Whether a module or name of this project is in a file that the image does not have."""
    parts = name.split(".")
    paths = ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
    files = [f"{path}{suffix}" for path in paths for suffix in (".py", "/__init__.py")]
    found = [file for file in files if (PROJECT / file).is_file()]
    return bool(found) and found[0] not in CONTENT


def test_image_has_no_development_parts() -> None:
    assert [path for path in CONTENT if FORBIDDEN.search(f"app/{path}")] == []
    assert {"app.py", "templates/base.html", "migrations/env.py", "static/theme.css"} <= CONTENT


def test_secrets_and_data_stay_outside_the_build_context() -> None:
    ignore = (PROJECT / ".dockerignore").read_text()
    private = [".env", "instance/secret_key", ".git/config", "neon.dump", "core/__pycache__/x.pyc"]

    assert context_files(ignore, [*private, "core/json.py"]) == ["core/json.py"]


def test_image_runs_without_root_and_checks_its_health() -> None:
    instructions = read_instructions((PROJECT / "Dockerfile").read_text())
    names = [name for name, _ in instructions]
    [user] = [argument for name, argument in instructions if name == "USER"]
    runs = " ".join(argument for name, argument in instructions if name == "RUN")

    assert user not in ("0", "root")
    assert names.index("USER") < names.index("HEALTHCHECK") < names.index("CMD")
    assert "--require-hashes" in runs


def test_demo_is_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]

    assert ports == ["127.0.0.1:8000:8080"]


def test_demo_sets_only_existing_settings() -> None:
    built = [service for service in COMPOSE["services"].values() if "build" in service]
    names = {name.lower() for service in built for name in service["environment"]}

    assert len(built) == 2
    assert names <= set(Config.model_fields)


def test_example_of_development_settings_names_existing_ones() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    names = {found[1].lower() for line in lines if (found := re.match(r"#?([A-Z_]+)=", line))}

    assert names <= set(Config.model_fields)


def test_proxy_of_the_demo_adds_no_header_that_the_identity_provider_refuses() -> None:
    config = (PROJECT / "ops" / "nginx" / "compose.conf").read_text()
    added = set(re.findall(r"(?m)^ *proxy_set_header (\S+)", config))

    assert added.isdisjoint(PROXY_HEADERS)


def test_proxy_of_the_demo_is_valid(tmp_path: Path) -> None:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    server = (PROJECT / "ops" / "nginx" / "compose.conf").read_text()
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths} {server} }}")

    checked = subprocess.run(
        [binary, "-t", "-q", "-e", "stderr", "-c", file], check=False, capture_output=True
    )

    assert (checked.returncode, checked.stderr) == (0, b"")
