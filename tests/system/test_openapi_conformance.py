"""Schemathesis sends valid and invalid requests; each answer must match the OpenAPI document."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to
from dev import demo_data
from dev.fake_clerk import DevIdentityProvider, DevUser
from tests.support.clients import ADMIN
from tests.support.servers import run_test_app
from tests.support.users import BOB

SETTINGS = {"CLERK_WEBHOOK_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}
COMMAND = (sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file")
CONFIG = str(Path(__file__).with_name("schemathesis.toml"))
TIMEOUT_SECONDS = 600
# Of the admin API a mentee gets one answer, for which two lists stand.
NOT_FOR_ADMINS = ("--exclude-path-regex", "^/api/admin/(?!users$|audit$)")

# Thirty dead letters, and an admin who cannot be blocked, also not by a request of the test.
EXTRA_ROWS = """
INSERT INTO provisioning_attempts (clerk_id, state, attempts, next_attempt_at, error_class,
                                   first_failed_at, last_failed_at)
SELECT 'user_' || i, 'dead', 8, now(), 'IntegrityError', now(), now() FROM generate_series(1, 30) i;
CREATE FUNCTION keep_admin() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.blocked_at := NULL; RETURN NEW; END $$;
CREATE TRIGGER keep_admin BEFORE UPDATE ON users
   FOR EACH ROW WHEN (NEW.clerk_id = 'user_admin') EXECUTE FUNCTION keep_admin();
"""


def fill(url: str) -> None:
    engine = create_engine(url)
    with Session(engine) as session:
        demo_data.add_demo_data(session, datetime.now(UTC))
        session.commit()
    engine.dispose()
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXTRA_ROWS)


@pytest.mark.parametrize(
    ("user", "options"), [(ADMIN, ()), (BOB, NOT_FOR_ADMINS)], ids=["admin", "mentee"]
)
def test_every_answer_matches_its_description(
    copy_database: Callable[[str], str], tmp_path: Path, user: DevUser, options: tuple[str, ...]
) -> None:
    url = copy_database(f"described_{user.clerk_id}")
    fill(url)

    with run_test_app(tmp_path, DATABASE_URL=url, **SETTINGS) as app:
        token = DevIdentityProvider(app.instance / "identity").token(user)
        run = ("run", f"{app.url}/api/openapi.json", "--header", f"Authorization: Bearer {token}")
        completed = subprocess.run(
            [*COMMAND, CONFIG, *run, *options],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    assert completed.returncode == 0, completed.stdout + completed.stderr
