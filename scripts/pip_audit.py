"""Check the locked packages for known vulnerabilities with pip-audit.

An unreachable database is reported and counts as success, so that a build without network passes.
Every other result that is not clean fails.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
COMMAND = ("-m", "pip_audit", "--require-hashes", "--progress-spinner=off", "--format=json")
# Messages of pip-audit and requests when there is no network.
NO_NETWORK = ("Could not connect", "NameResolutionError", "Max retries exceeded", "ConnectTimeout")


class Verdict(NamedTuple):
    """The message and the exit code."""

    message: str
    code: int


def judge(output: str, errors: str) -> Verdict:
    """Return the verdict from pip-audit's standard output and standard error."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except ValueError:
        if any(sign in errors for sign in NO_NETWORK):
            return Verdict("audit: the database is not reachable; nothing was checked", 0)
        return Verdict(f"audit: FAILED\n{errors.strip()}", 1)
    found = [
        f"audit: {package['name']} {package['version']}: {vulnerability['id']}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    return Verdict("\n".join(found), 1) if found else _without_findings(packages)


def _without_findings(packages: list[dict[str, Any]]) -> Verdict:
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if packages and len(unknown) == len(packages):  # the answer of a mirror without the database
        return Verdict("audit: the database is not reachable; nothing was checked", 0)
    if unknown or not packages:
        return Verdict(f"audit: FAILED, not checked: {', '.join(unknown) or 'anything'}", 1)
    return Verdict(f"audit: {len(packages)} packages, no known vulnerability", 0)


def main() -> int:
    """Audit the packages of a production installation."""
    run = subprocess.run(  # nosec B603 # fixed arguments, no shell
        [sys.executable, *COMMAND, "-r", LOCK],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
    )
    verdict = judge(run.stdout, run.stderr)
    print(verdict.message)
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
