"""Does any locked package have a known vulnerability? Asks pip-audit, and judges what it says.

Unreachable is not the same as healthy: it is said, and counts as success, because a build on an
island must go on. Everything else that is not a clean answer fails.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
COMMAND = ("-m", "pip_audit", "--require-hashes", "--progress-spinner=off", "--format=json")
# How pip-audit, and requests below it, speak of a network that is not there.
NO_NETWORK = ("Could not connect", "NameResolutionError", "Max retries exceeded", "ConnectTimeout")


class Verdict(NamedTuple):
    """What to say, and the exit code that says the same."""

    words: str
    code: int


def judge(output: str, complaints: str) -> Verdict:
    """Read what pip-audit wrote to its two outputs."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except ValueError:
        if any(sign in complaints for sign in NO_NETWORK):
            return Verdict("audit: the database is not reachable; nothing was checked", 0)
        return Verdict(f"audit: FAILED\n{complaints.strip()}", 1)
    found = [
        f"audit: {package['name']} {package['version']}: {vulnerability['id']}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    return Verdict("\n".join(found), 1) if found else _without_findings(packages)


def _without_findings(packages: list[dict[str, Any]]) -> Verdict:
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if packages and len(unknown) == len(packages):  # a mirror answers, that knows none of them
        return Verdict("audit: the database is not reachable; nothing was checked", 0)
    if unknown or not packages:
        return Verdict(f"audit: FAILED, not checked: {', '.join(unknown) or 'anything'}", 1)
    return Verdict(f"audit: {len(packages)} packages, no known vulnerability", 0)


def main() -> int:
    """Audit what is installed where the program runs."""
    run = subprocess.run(  # nosec B603 # a fixed list of words
        [sys.executable, *COMMAND, "-r", LOCK],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
    )
    verdict = judge(run.stdout, run.stderr)
    print(verdict.words)
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
