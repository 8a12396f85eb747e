"""The reply to a COMMIT is lost: the change is reported as done and not repeated."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from benchmarks.databases import SimulatedNetwork, connect_to, count, network_proxy
from benchmarks.servers import AppServer, eventually, provider_of, request_as, run_app
from dev.fake_clerk import DevUser
from tests.support.clients import ADMIN, new_users
from tests.support.users import BOB

REGISTERED = "SELECT count(*) FROM mentorados WHERE nome_completo = :name"
CREATIONS = """
SELECT count(*) FROM audit_events AS e JOIN users AS u ON u.id = e.user_id
 WHERE event = 'mentorado_created' AND clerk_id = :clerk_id
"""
DELETED, DEACTIVATED, BLOCKED = new_users(3)


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    return copy_database("lost_answer")


@pytest.fixture(scope="module")
def relay(url: str) -> Iterator[SimulatedNetwork]:
    """A proxy between the app and its database."""
    with network_proxy(url) as relay:
        yield relay


@pytest.fixture(scope="module")
def app(relay: SimulatedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app without a scheduler; each test has its own users."""
    folder = tmp_path_factory.mktemp("lost_answer")
    with run_app(folder, DATABASE_URL=relay.url, SCHEDULER="off") as app:
        yield app


def test_created_profile_is_reported_as_created_after_a_lost_commit_reply(
    app: AppServer, relay: SimulatedNetwork, url: str
) -> None:
    relay.withholds.set()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(request_as, app, BOB)
        assert relay.has_withheld.wait(10)
        relay.withholds.clear()
        first = pending.result()

    second = request_as(app, BOB)

    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (second.status_code, second.json()["created"]) == (200, False)
    assert count(url, CREATIONS, clerk_id=BOB.clerk_id) == 1


@pytest.fixture
def cached_admin(app: AppServer, url: str) -> None:
    """An admin with a profile and a cached context, whose requests commit nothing."""
    request_as(app, ADMIN, "/admin", "GET")
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mentorados (user_id, nome_completo, turma)"
            " SELECT id, 'A', 'neon' FROM users WHERE clerk_id = 'user_admin'"
            " ON CONFLICT DO NOTHING"
        )
    request_as(app, ADMIN, "/admin", "GET")


def lose_commit_reply(
    relay: SimulatedNetwork, call: Callable[[], requests.Response]
) -> requests.Response:
    """Run the call while the reply to its first COMMIT is lost."""
    relay.withholds.set()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call)
        assert relay.has_withheld.wait(10)
        relay.withholds.clear()
        return pending.result()


@pytest.mark.usefixtures("cached_admin")
def test_registration_succeeds_after_a_lost_commit_reply(
    app: AppServer, relay: SimulatedNetwork, url: str
) -> None:
    body = {"nome_completo": "Eva", "email": "eva@example.com"}

    answer = lose_commit_reply(
        relay, partial(request_as, app, ADMIN, "/api/admin/mentorados", "POST", body)
    )

    assert (answer.status_code, answer.json()["nome_completo"]) == (201, "Eva")
    assert count(url, REGISTERED, name="Eva") == 1


@pytest.mark.usefixtures("cached_admin")
def test_merge_succeeds_after_a_lost_commit_reply(app: AppServer, relay: SimulatedNetwork) -> None:
    register = partial(request_as, app, ADMIN, "/api/admin/mentorados", "POST")
    removed, kept = (register({"nome_completo": name}).json()["id"] for name in ("Um", "Dois"))
    path = f"/api/admin/mentorados/{removed}/merge"

    answer = lose_commit_reply(relay, partial(request_as, app, ADMIN, path, "POST", {"into": kept}))

    assert (answer.status_code, answer.json()["mentorado"]["id"]) == (200, kept)


@pytest.mark.usefixtures("cached_admin")
def test_form_is_applied_once_after_a_lost_commit_reply(
    app: AppServer, relay: SimulatedNetwork, url: str
) -> None:
    token = provider_of(app.instance).token(ADMIN)
    form = {"confirmado": "sim", "lista": "nome;e-mail\nSem e-mail;", "chave": str(uuid.uuid4())}

    answer = lose_commit_reply(
        relay,
        lambda: requests.post(
            f"{app.url}/admin/mentorados/novos",
            data=form,
            headers={"Authorization": f"Bearer {token}", "Connection": "close"},
            timeout=10,
        ),
    )

    assert answer.status_code == 200
    # A lease may have to expire.
    assert eventually(lambda: count(url, REGISTERED, name="Sem e-mail") == 1, seconds=30)
    assert count(url, "SELECT count(*) FROM admin_jobs") == 1


@pytest.mark.usefixtures("cached_admin")
@pytest.mark.parametrize(
    ("user", "method", "path", "body", "status"),
    [
        (DELETED, "DELETE", "/api/admin/mentorados/{profile}", None, "user_blocked"),
        (
            DEACTIVATED,
            "PATCH",
            "/api/admin/mentorados/{profile}",
            {"ativo": "nao"},
            "mentorado_inactive",
        ),
        (BLOCKED, "POST", "/api/admin/users/{user}/block", None, "user_blocked"),
    ],
    ids=["deleted", "deactivated", "blocked"],
)
def test_denial_applies_to_the_next_request_after_a_lost_commit_reply(
    app: AppServer,
    relay: SimulatedNetwork,
    user: DevUser,
    method: str,
    path: str,
    body: object,
    status: str,
) -> None:
    me = request_as(app, user, "/api/auth/ensure").json()["mentorado"]
    request_as(app, user, "/api/auth/me", "GET")
    path = path.format(profile=me["id"], user=me["user_id"])

    answer = lose_commit_reply(relay, partial(request_as, app, ADMIN, path, method, body))

    assert answer.status_code in (200, 204)
    assert request_as(app, user, "/api/auth/me", "GET").json()["status"] == status
