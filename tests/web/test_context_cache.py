"""The session cache: spares the question, never answers it wrongly."""

import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

import session_context
from extensions import cache
from models import Mentorado, User
from tests.cast import ALICE, BOB
from tests.fixtures import Sign


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """Every statement that reaches the database."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def test_second_request_asks_the_database_nothing(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    statements.clear()

    answer = client.get("/api/auth/me", headers=sign(ALICE))

    assert (answer.status_code, statements) == (200, [])


def test_cached_and_uncached_answers_are_the_same(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    first = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert client.get("/api/auth/me", headers=sign(ALICE)).json == first


def test_renewal_sends_the_next_request_to_the_database(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    alice.nome_completo = "Alice Nova"
    session.commit()
    session_context.renew(ALICE.clerk_id)

    me = client.get("/api/mentorados/me", headers=sign(ALICE)).json

    assert me is not None
    assert me["nome_completo"] == "Alice Nova"


def test_renewal_of_everybody_reaches_each_person(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    session_context.renew_everybody()
    statements.clear()

    client.get("/api/auth/me", headers=sign(ALICE))

    assert statements != []


def test_late_fill_of_a_slow_reader_lands_on_a_dead_key(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    slow = session_context.look_up(ALICE.clerk_id)
    stale = session_context.Context(
        {"id": 1, "clerk_id": ALICE.clerk_id, "name": None, "email": None, "role": "admin"},
        session_context.mentorado_shape(alice),
        "ready",
    )
    session_context.renew(ALICE.clerk_id)

    session_context.keep(ALICE.clerk_id, stale, slow.generation, 300)

    assert session_context.look_up(ALICE.clerk_id).context is None


def plant_entry_without_mentorado() -> None:
    generation = session_context.look_up(BOB.clerk_id).generation
    entry = {"generation": generation, "user": {"id": 7}, "mentorado": None}
    cache.set(f"context:{BOB.clerk_id}", json.dumps(entry))


def test_hit_without_mentorado_heals_itself(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    plant_entry_without_mentorado()

    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.status_code == 200
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 1


def test_hit_without_mentorado_is_logged(client: FlaskClient, sign: Sign) -> None:
    plant_entry_without_mentorado()

    with capture_logs() as logs:
        client.get("/api/mentorados/me", headers=sign(BOB))

    assert "cache_hit_no_mentorado" in [line["event"] for line in logs]


@pytest.mark.parametrize("garbage", ["{", "[]", '"text"', '{"generation": 1}'])
def test_garbage_in_the_cache_is_as_good_as_nothing(
    client: FlaskClient, alice: Mentorado, sign: Sign, garbage: str
) -> None:
    cache.set(f"context:{ALICE.clerk_id}", garbage)

    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


def test_absence_is_never_cached(client: FlaskClient, session: Session, sign: Sign) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role="admin"))
    session.commit()

    client.get("/api/auth/me", headers=sign(BOB))

    assert cache.get(f"context:{BOB.clerk_id}") is None


def test_broken_cache_changes_no_answer(
    client: FlaskClient, alice: Mentorado, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError

    for call in ("get", "get_many", "set", "add"):
        monkeypatch.setattr(cache, call, refuse)

    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


def test_profile_deleted_behind_the_cache_is_made_anew(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    old_id = alice.id
    session.delete(alice)
    session.commit()

    answer = client.get("/api/mentorados/me/overview", headers=sign(ALICE))

    assert answer.status_code == 200
    assert session.scalars(select(Mentorado.id)).one() != old_id
