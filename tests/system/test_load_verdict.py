"""The load test ends with exit code 1 when something is wrong, and says what."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks.load import HEADLESS, MUST_BE_ZERO
from dev.servers import PROJECT, child_environment
from tests.support.wrong_server import lying

WAITING = "--forgive=waiting"
A_USER = "INSERT INTO users (clerk_id) VALUES ('user_without')"
A_PROFILE = "INSERT INTO mentorados (nome_completo, turma) VALUES ('Nobody''s', 'neon')"


@dataclass(frozen=True, slots=True)
class Case:
    """What the server says, what else Locust is asked for, how it ends and what it complains of."""

    lie: str
    options: tuple[str, ...]
    exit_code: int
    complaints: tuple[str, ...]


CASES = (
    Case("truth", (), 0, ()),
    Case("truth", ("--slowest-first-login=-1",), 1, ("FAILED: p95 of first login: ",)),
    Case("later", (WAITING,), 0, ()),
    Case(
        *("wrong", (WAITING,), 1),
        ("not the answer to this person", "503 without a code that could be read", "500 internal"),
    ),
    Case(
        *("mixed_up", (), 1),
        (
            "FAILED: one profile was shown to two people",
            "FAILED: 10 of 10 devices were told created:true",
            ": provisioning_unavailable, {1}",
        ),
    ),
)


def start_locust(folder: Path, url: str, case: Case) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *HEADLESS]
    crowd = ["-u", "4", "-r", "4", "-t", "1s", "--html", f"{folder / case.lie}.html"]
    pace = "--slowest-first-login=60000"  # however busy the machine is; the last one counts
    return subprocess.Popen(
        [*command, *crowd, "--host", f"{url}/{case.lie}", pace, *case.options],
        cwd=PROJECT,
        env=child_environment({"INSTANCE_PATH": str(folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_exit_code_words_and_report_follow_from_what_was_told(tmp_path: Path) -> None:
    with lying() as url:
        runs = [start_locust(tmp_path, url, case) for case in CASES]
        said = [run.communicate(timeout=120)[0] for run in runs]

    unsaid = [
        [c for c in case.complaints if c not in s] for case, s in zip(CASES, said, strict=True)
    ]
    assert [run.returncode for run in runs] == [case.exit_code for case in CASES], said
    assert unsaid == [[]] * len(CASES), said
    assert "one profile was shown to two people" in (tmp_path / "mixed_up.html").read_text()


def test_database_is_asked_for_what_no_client_sees(connection: Connection) -> None:
    connection.execute(text(A_USER))
    connection.execute(text(A_PROFILE))

    found = [connection.execute(text(query)).scalar_one() for query in MUST_BE_ZERO.values()]

    assert found == [1, 1, 1]
