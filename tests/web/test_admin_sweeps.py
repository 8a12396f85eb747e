"""Sweeps requested by admins: queued, listed, and refused while one is active."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import SweepRun, User
from models.people import Role
from tests.support.types import Sign
from tests.support.users import ALICE

COUNTS = ["total", "scanned", "created", "linked", "existing", "failed", "ambiguous"]
TIMES = ["started_at", "finished_at", "heartbeat_at"]
KEYS = ["id", "status", "trigger", "dry_run", *COUNTS, *TIMES, "error"]


@pytest.fixture
def admin(session: Session, sign: Sign) -> dict[str, str]:
    """The headers of an admin."""
    session.add(User(clerk_id=ALICE.clerk_id, role=Role.ADMIN))
    session.commit()
    return sign(ALICE)


def test_sweep_is_queued_with_its_location(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.post("/api/admin/sweeps", headers=admin)

    assert response.json is not None
    assert (response.status_code, response.json["status"]) == (202, "queued")
    assert response.location == f"/api/admin/sweeps/{response.json['id']}"


def test_second_request_is_refused_with_the_id_of_the_first(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    first = client.post("/api/admin/sweeps", headers=admin).json

    second = client.post("/api/admin/sweeps", headers=admin)

    assert (first, second.json) != (None, None)
    assert second.status_code == 409
    assert (second.json or {})["code"] == "sweep_running"
    assert (second.json or {})["id"] == (first or {})["id"]


@pytest.mark.parametrize(("minutes", "status"), [(0.1, 409), (5, 202)])
def test_request_is_refused_only_while_a_run_has_a_heartbeat(
    client: FlaskClient, session: Session, admin: dict[str, str], minutes: float, status: int
) -> None:
    last_heartbeat = func.now() - timedelta(minutes=minutes)
    session.add(SweepRun(status="running", trigger="cli", owner="x", heartbeat_at=last_heartbeat))
    session.commit()

    assert client.post("/api/admin/sweeps", headers=admin).status_code == status


def test_run_has_the_keys_of_the_contract(client: FlaskClient, admin: dict[str, str]) -> None:
    location = client.post("/api/admin/sweeps", headers=admin).location

    run = client.get(location, headers=admin).json

    assert run is not None
    assert list(run) == KEYS


def test_dry_run_can_be_requested(
    client: FlaskClient, session: Session, admin: dict[str, str]
) -> None:
    client.post("/api/admin/sweeps", headers=admin, json={"dry_run": True})

    assert session.scalars(select(SweepRun.dry_run)).one() is True


def test_runs_are_listed_newest_first(
    client: FlaskClient, session: Session, admin: dict[str, str]
) -> None:
    session.add_all([SweepRun(status="succeeded", trigger="clock") for _ in range(3)])
    session.commit()

    listed = client.get("/api/admin/sweeps", headers=admin).json

    ids = [run["id"] for run in (listed or {})["items"]]
    assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize("run_id", ["999999", "99999999999999999999"])
def test_unknown_run_is_a_404(client: FlaskClient, admin: dict[str, str], run_id: str) -> None:
    assert client.get(f"/api/admin/sweeps/{run_id}", headers=admin).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"dry_run": "yes"}', "dry_run"),
        (b'{"dryrun": true}', "dryrun"),
        (b"[]", ""),
        (b"{", ""),
        (b"[" * 30_000, ""),
        (b"\xff", ""),
    ],
)
def test_invalid_body_is_refused_by_field_and_queues_nothing(
    client: FlaskClient, session: Session, admin: dict[str, str], body: bytes, field: str
) -> None:
    response = client.post(
        "/api/admin/sweeps", headers=admin, data=body, content_type="application/json"
    )

    assert response.json is not None
    assert (response.status_code, response.json["errors"][0]["field"]) == (422, field)
    assert session.scalars(select(SweepRun)).all() == []


def test_body_over_64_kib_is_refused(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.post("/api/admin/sweeps", headers=admin, json={"x": "a" * 70_000})

    assert response.status_code == 413
