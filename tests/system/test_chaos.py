"""A short chaos run breaks no rule, and its readers of answers find what users are shown."""

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks import chaos
from benchmarks.chaos_operations import ENROL, FormReader
from benchmarks.chaos_rules import ADMINISTRATION, PROFILE, RULES, TIMED_RULES, Shown
from benchmarks.chaos_servers import read_code, shown_by
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from models import Mentorado
from tests.support.html_page import SAME_ORIGIN
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB

ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
INVALID_ROWS = """
INSERT INTO users (id, clerk_id, deleted_at)
VALUES (1, 'user_alone', NULL), (2, 'user_gone', now());
INSERT INTO mentorados (user_id, nome_completo, turma) VALUES (2, 'Unrecorded', 'neon')
"""


def test_short_chaos_run_breaks_no_rule_and_writes_its_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code = chaos.main(["--minutes=0.1", "--seed=1", "--busy", f"--report={tmp_path}"])

    output = capfd.readouterr().out
    record = json.loads((tmp_path / "record.json").read_text())
    assert exit_code == 0, output
    assert (record["seed"], record["faults"] != []) == (1, True)
    assert min(len(record["record"][name]) for name in ("answers", "changes")) > 50
    assert [rule for rule in (*RULES, *TIMED_RULES) if rule not in output] == []


def test_queries_find_rows_that_violate_the_rules(connection: Connection) -> None:
    connection.execute(text(INVALID_ROWS))

    found = [len(connection.execute(text(query)).all()) for query in chaos.LEFTOVERS.values()]

    assert found == [1, 1, 1]


@pytest.mark.parametrize(
    "path", ["/api/auth/me", "/api/mentorados/me", "/api/mentorados/me/overview", "/dashboard"]
)
def test_answer_to_a_mentee_is_read(
    client: FlaskClient, browser_of: Browser, sign: Sign, alice: Mentorado, path: str
) -> None:
    shown = shown_in(browser_of(ALICE), path)

    assert shown.access == PROFILE
    assert shown.clerk_id in (None, ALICE.clerk_id)
    assert shown.owner_id in (None, alice.user_id)
    assert shown.mentorado_id in (None, alice.id)
    assert (shown.mentorado_id is None) == (path in ("/api/mentorados/me/overview", "/dashboard"))


def test_answer_to_a_creation_is_read(client: FlaskClient, sign: Sign) -> None:
    answers = [client.post("/api/auth/ensure", headers=sign(BOB)) for _ in range(2)]

    read = [
        shown_by("/api/auth/ensure", a.status_code, a.json or {}, a.get_data()) for a in answers
    ]
    assert [(shown.is_created, shown.access) for shown in read] == [
        (True, PROFILE),
        (False, PROFILE),
    ]


def test_answer_to_an_admin_is_read(browser_of: Browser) -> None:
    paths = ("/api/admin/users", "/admin/mentorados/novos")

    assert [shown_in(browser_of(ADMIN), path).access for path in paths] == [ADMINISTRATION] * 2
    assert [shown_in(browser_of(BOB), path) for path in paths] == [Shown()] * 2


@pytest.mark.parametrize("path", ["/api/admin/users", "/admin/mentorados/novos"])
def test_error_code_is_read(browser_of: Browser, path: str) -> None:
    answer = browser_of(BOB).get(path)

    assert read_code(answer.status_code, answer.json or {}, answer.get_data()) == "forbidden"


def test_confirmation_form_is_read_like_by_a_browser(browser_of: Browser) -> None:
    content = "nome;e-mail\nEva;eva@example.com"

    page = browser_of(ADMIN).post(ENROL, data={"lista": content}, headers=SAME_ORIGIN)

    reader = FormReader()
    reader.feed(page.get_data(as_text=True))
    [form] = [form for form in reader.forms if "confirmado" in form]
    assert form["lista"].splitlines() == content.splitlines()


def shown_in(client: FlaskClient, path: str) -> Shown:
    """Return what the answer to this path shows."""
    answer = client.get(path)
    document = answer.json if answer.is_json else {}
    return shown_by(path, answer.status_code, document or {}, answer.get_data())
