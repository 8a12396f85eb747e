"""Read the constants of Clerk's JavaScript package, which the tests compare with ours.

`python -m scripts.clerk_constants [VERSION]` downloads the package with npm and writes the extract
that the tests use. With `--check` it compares the extract with the package, and exits with 1 if
they differ. Needs npm and its registry; development only.
"""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

EXTRACT = Path(__file__).resolve().parent.parent / "tests" / "auth" / "clerk_constants.json"
PACKAGE = "@clerk/backend"
SOURCE = "package/dist/internal.js"
# The objects of the package, each a list of names with text values.
OBJECTS = (
    "AuthErrorReason",
    "TokenVerificationErrorReason",
    "RefreshTokenErrorReason",
    "Cookies",
    "QueryParameters",
)
TEXTS = (
    "SUPPORTED_BAPI_VERSION",
    "JWT_CATEGORY_SESSION_TOKEN",
    "JWT_CATEGORY_IGNORE",
    "M2M_SUBJECT_PREFIX",
)
MEMBER = re.compile(r'^\s*(\w+): (?:"([^"]*)"|Cookies\.(\w+))', re.MULTILINE)


def main(version: str) -> None:
    """Write the extract of one version of the package."""
    constants = read_constants(download(f"{PACKAGE}@{version}"))
    header = {"package": PACKAGE, "version": version, "licence": "MIT, (c) Clerk, Inc."}
    EXTRACT.write_text(json.dumps({**header, "constants": constants}, indent=2) + "\n")


def download(package: str) -> str:
    """Return the JavaScript source of a package; raises OSError or SubprocessError without npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # nosec B603 # fixed arguments, no shell
            [npm, "pack", "--silent", "--prefer-offline", package],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=60,
        )
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as files:
            member = files.extractfile(SOURCE)
            if member is None:
                raise FileNotFoundError(SOURCE)
            return member.read().decode()


def read_constants(source: str) -> dict[str, object]:
    """Return the constants by name; raises ValueError where one is missing."""
    cookies = _members(source, "Cookies", {})
    constants: dict[str, object] = {name: _members(source, name, cookies) for name in OBJECTS}
    for name in TEXTS:
        found = re.search(rf'^var {name} = "([^"]*)";', source, re.MULTILINE)
        if found is None:
            raise ValueError(name)
        constants[name] = found[1]
    seconds = re.search(r"^var MAX_CACHE_LAST_UPDATED_AT_SECONDS = (\d+) \* (\d+);", source, re.M)
    if seconds is None:
        raise ValueError("MAX_CACHE_LAST_UPDATED_AT_SECONDS")
    return {**constants, "MAX_CACHE_LAST_UPDATED_AT_SECONDS": int(seconds[1]) * int(seconds[2])}


def _members(source: str, name: str, cookies: dict[str, str]) -> dict[str, str]:
    block = re.search(rf"^var {name} = \{{(.*?)^\}};", source, re.MULTILINE | re.DOTALL)
    if block is None:
        raise ValueError(name)
    return {key: text or cookies[cookie] for key, text, cookie in MEMBER.findall(block[1])}


def check() -> None:
    """Exit with one line if the extract is not that of its version of the package."""
    extract = json.loads(EXTRACT.read_text())
    package = f"{extract['package']}@{extract['version']}"
    if read_constants(download(package)) != extract["constants"]:
        sys.exit(f"clerk_constants: the extract differs from {package}")
    print(f"the extract is that of {package}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else json.loads(EXTRACT.read_text())["version"])
