"""The load runs, and ends well, on a program that keeps its promise."""

import subprocess
import sys

from tests.serving import PROJECT, child_environment


def test_short_load_finds_everything_in_order() -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--users", "10", "--seconds", "2"]

    run = subprocess.run(
        command,
        cwd=PROJECT,
        env=child_environment({}),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "every invariant and threshold held" in run.stdout
