"""A typed client for Python is generated from the OpenAPI document without a warning."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

PARSED = re.compile(r"def _parse_response\(.*?\) -> (?P<types>.*?) \| None:", re.DOTALL)


@pytest.fixture
def operations(client: FlaskClient, tmp_path: Path) -> dict[str, set[str]]:
    """The types of the answers of each generated operation; warnings fail the generation."""
    document, config = tmp_path / "openapi.json", tmp_path / "config.yaml"
    document.write_text(json.dumps(client.get("/api/openapi.json").json))
    config.write_text("post_hooks: []\n")  # which would only format the code
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    options = ["--path", document, "--config", config, "--output-path", tmp_path / "generated"]
    generated = subprocess.run(
        [*command, "--meta", "none", *map(str, options)],
        check=False,
        capture_output=True,
        text=True,
    )
    output = generated.stdout + generated.stderr
    assert (generated.returncode, "Warning" in output) == (0, False), output
    found = {}
    for file in (tmp_path / "generated" / "api").glob("*/[!_]*.py"):
        match = PARSED.search(file.read_text())
        assert match is not None, file
        found[file.stem] = set(match["types"].split(" | "))
    return found


def test_generated_client_has_typed_answers_and_problems(
    client: FlaskClient, operations: dict[str, set[str]]
) -> None:
    paths = (client.get("/api/openapi.json").json or {})["paths"].values()
    documented = {
        operation["operationId"].replace(".", "_"): operation["responses"]
        for methods in paths
        for operation in methods.values()
    }
    without_content = {name for name, responses in documented.items() if "204" in responses}

    untyped = {name for name, types in operations.items() if "Any" in types}
    with_problems = {name for name, types in operations.items() if "ProblemDocument" in types}

    assert (operations.keys(), with_problems) == (documented.keys(), set(documented))
    assert untyped == without_content
