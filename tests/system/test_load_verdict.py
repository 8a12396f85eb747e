"""The load test ends with exit code 1 and a message if an answer or a row is wrong."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks.load import HEADLESS, MUST_BE_ZERO
from benchmarks.servers import PROJECT, child_environment
from tests.support.wrong_server import run_wrong_server

TOLERATE_WAITING = "--tolerate=waiting"
ADD_USER = "INSERT INTO users (clerk_id) VALUES ('user_without')"
ADD_PROFILE = "INSERT INTO mentorados (nome_completo, turma) VALUES ('Nobody''s', 'neon')"


@dataclass(frozen=True, slots=True)
class Case:
    """The kind of the server's answers, options of Locust, its exit code and its messages."""

    answers: str
    options: tuple[str, ...]
    exit_code: int
    messages: tuple[str, ...]


CASES = (
    Case("truth", (), 0, ()),
    Case("truth", ("--slowest-first-login=-1",), 1, ("FAILED: p95 of first login: ",)),
    Case("later", (TOLERATE_WAITING,), 0, ()),
    Case(
        "wrong",
        (TOLERATE_WAITING,),
        1,
        ("not the answer to this person", "503 without a code that could be read", "500 internal"),
    ),
    Case(
        "mixed_up",
        (),
        1,
        (
            "FAILED: one profile was shown to two people",
            "FAILED: 10 of 10 devices received created:true",
            ": provisioning_unavailable, {1}",
        ),
    ),
)


def start_locust(folder: Path, url: str, case: Case) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *HEADLESS]
    users = ["-u", "4", "-r", "4", "-t", "1s", "--html", f"{folder / case.answers}.html"]
    no_limit = "--slowest-first-login=60000"  # options of the case come later and override it
    return subprocess.Popen(
        [*command, *users, "--host", f"{url}/{case.answers}", no_limit, *case.options],
        cwd=PROJECT,
        env=child_environment({"INSTANCE_PATH": str(folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_exit_code_messages_and_report_follow_from_the_answers(tmp_path: Path) -> None:
    with run_wrong_server() as url:
        runs = [start_locust(tmp_path, url, case) for case in CASES]
        outputs = [run.communicate(timeout=120)[0] for run in runs]

    missing = [
        [m for m in case.messages if m not in output]
        for case, output in zip(CASES, outputs, strict=True)
    ]
    assert [run.returncode for run in runs] == [case.exit_code for case in CASES], outputs
    assert missing == [[]] * len(CASES), outputs
    assert "one profile was shown to two people" in (tmp_path / "mixed_up.html").read_text()


def test_queries_find_rows_that_must_not_exist(connection: Connection) -> None:
    connection.execute(text(ADD_USER))
    connection.execute(text(ADD_PROFILE))

    found = [connection.execute(text(query)).scalar_one() for query in MUST_BE_ZERO.values()]

    assert found == [1, 1, 1]
