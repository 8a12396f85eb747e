"""Compare this checkout with another revision of it, in alternating slices of one run.

    python -m benchmarks.compare REV --repetitions 5

A ratio above 1 means that this checkout is faster. Both are served by the installed packages, so
the revision must work with them.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.clerk_stub import run_clerk_stub
from benchmarks.report_table import Figure, markdown_table
from benchmarks.servers import PROJECT
from benchmarks.slices import QUICK, Installation, Sizes, Slice, alternate, install

PARTS: dict[str, Callable[[Installation], Slice]] = {
    "warm": lambda app: app.warm(),
    "claims": lambda app: app.logins(with_claims=True),
    "logins": lambda app: app.logins(with_claims=False),
    "stampede": lambda app: app.stampede(),
}


def main() -> int:
    """Measure the parts; the exit code is 1 if any answer of this checkout was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="a commit, branch or tag")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="one or more of the parts")
    parser.add_argument("--quick", action="store_true", help="short slices, to try it out")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extract_revision(options.revision, folder / "revision")
        for with_redis in (False, True):
            with ExitStack() as stack:
                clerk = stack.enter_context(run_clerk_stub(_subfolder(folder, "clerk", with_redis)))
                ours, other = (
                    stack.enter_context(
                        install(
                            _subfolder(folder, label, with_redis),
                            clerk,
                            sizes,
                            with_redis=with_redis,
                            target="wsgi:app",
                            project=project,
                        )
                    )
                    for label, project in (("own", PROJECT), ("other", folder / "revision"))
                )
                for part in options.only or PARTS:
                    work = PARTS[part]
                    pairs = alternate(lambda: work(ours), lambda: work(other), options.repetitions)  # noqa: B023 - called at once
                    figures.append(_figure(part, options.revision, pairs, with_redis=with_redis))
    print(markdown_table(figures))
    return 1 if any(figure.wrong for figure in figures) else 0


def _subfolder(folder: Path, label: str, with_redis: bool) -> Path:  # noqa: FBT001 - of a name
    path = folder / f"{label}-{'redis' if with_redis else 'process'}"
    path.mkdir()
    return path


def extract_revision(revision: str, folder: Path) -> None:
    """Write the files of a revision into the folder."""
    archive = subprocess.run(  # nosec B603 B607
        ["git", "archive", revision],  # noqa: S607 - git of the developer's PATH
        cwd=PROJECT,
        check=True,
        capture_output=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")  # nosec B202 # of our own repository


def _figure(
    part: str, revision: str, pairs: list[tuple[Slice, Slice]], *, with_redis: bool
) -> Figure:
    ratios = [own.run.per_second / other.run.per_second for own, other in pairs]
    own_rate, other_rate = (
        statistics.median(each.run.per_second for each in side) for side in zip(*pairs, strict=True)
    )
    return Figure(
        f"{part}, {'Redis' if with_redis else 'the cache in the process'}",
        f"{own_rate:.0f}/s",
        f"{revision}, {other_rate:.0f}/s",
        ratios,
        wrong=sum(own.wrong for own, _ in pairs),
    )


if __name__ == "__main__":
    sys.exit(main())
