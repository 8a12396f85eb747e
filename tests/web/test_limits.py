"""Whoever asks too much is told to wait, and nobody else notices."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis as Probe
from werkzeug.wrappers import Response

from dev.databases import app_on
from dev.servers import Redis, eventually
from tests.support.types import Sign
from tests.support.users import ALICE, BOB
from web.services import EXTENSION

PER_MINUTE, BURST = 60, 20
ENSURES, ENSURE_BURST = 3, 6
LIMITS = {"rate_limit_per_minute": PER_MINUTE, "ensure_rate_limit_per_minute": ENSURES}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Knock = Callable[[], Response]


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    return copy_database(f"limits_{tmp_path.name}")


@pytest.fixture
def app(tmp_path: Path, url: str) -> Iterator[Flask]:
    with app_on(tmp_path, url, clerk_webhook_secret=SECRET, **LIMITS) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def sign_for(app: Flask) -> Sign:
    provider = app.extensions[EXTENSION].dev_provider
    return lambda person: {"Authorization": f"Bearer {provider.token(person)}"}


@pytest.fixture
def sign(app: Flask) -> Sign:
    return sign_for(app)


def let_in(knock: Knock, times: int) -> int:
    """How many of so many requests in a row are not told to wait."""
    return sum(knock().status_code != 429 for _ in range(times))


def test_person_may_come_in_bursts_of_a_third(client: FlaskClient, sign: Sign) -> None:
    headers = sign(ALICE)

    admitted = let_in(lambda: client.get("/api/auth/me", headers=headers), 2 * BURST)

    assert BURST <= admitted < BURST + 5  # one more each second


def test_one_persons_flood_is_nobody_elses(client: FlaskClient, sign: Sign) -> None:
    let_in(lambda: client.get("/api/auth/me", headers=sign(ALICE)), 2 * BURST)

    answer = client.get("/api/auth/me", headers=sign(BOB))

    assert answer.status_code == 200


def test_refusal_says_when_to_come_again(client: FlaskClient, sign: Sign) -> None:
    let_in(lambda: client.get("/api/auth/me", headers=sign(ALICE)), 2 * BURST)

    answer = client.get("/api/auth/me", headers=sign(ALICE))

    assert answer.json is not None
    assert (answer.json["code"], answer.headers["Retry-After"]) == ("rate_limited", "1")
    assert answer.json["retry_after_ms"] == 1000


def test_whoever_waits_may_go_on(client: FlaskClient, sign: Sign) -> None:
    headers = sign(ALICE)
    let_in(lambda: client.get("/api/auth/me", headers=headers), 2 * BURST)

    assert eventually(lambda: client.get("/api/auth/me", headers=headers).status_code == 200)


def test_ensuring_is_counted_for_itself(client: FlaskClient, sign: Sign) -> None:
    headers = sign(ALICE)

    admitted = let_in(lambda: client.post("/api/auth/ensure", headers=headers), 2 * ENSURE_BURST)

    assert admitted == ENSURE_BURST
    assert client.get("/api/auth/me", headers=headers).status_code == 200


def test_person_who_waits_costs_the_database_nothing(
    client: FlaskClient, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in(lambda: client.post("/api/auth/ensure", headers=sign(ALICE)), ENSURE_BURST)
    monkeypatch.setattr("provisioning.service.ensure", None)

    assert client.post("/api/auth/ensure", headers=sign(ALICE)).status_code == 429


@pytest.mark.parametrize("path", ["/api/auth/me", "/dashboard", "/nada", "/api/nada"])
def test_address_without_session_is_counted(client: FlaskClient, path: str) -> None:
    assert let_in(lambda: client.get(path), PER_MINUTE + 5) <= PER_MINUTE + 2


def test_address_is_counted_for_wrong_tokens(client: FlaskClient) -> None:
    headers = {"Authorization": "Bearer guess"}

    def knock() -> Response:
        return client.get("/api/auth/me", headers=headers)

    assert let_in(knock, PER_MINUTE + 5) <= PER_MINUTE + 2


def test_flood_of_strangers_does_not_keep_a_person_out(client: FlaskClient, sign: Sign) -> None:
    let_in(lambda: client.get("/api/auth/me"), PER_MINUTE + 5)

    assert client.get("/api/auth/me", headers=sign(ALICE)).status_code == 200


def test_flood_from_an_address_does_not_keep_an_expired_session_out(
    app: Flask, client: FlaskClient
) -> None:
    claims = {"sub": ALICE.clerk_id, "sid": "sess_alice", "azp": "http://localhost"}
    expired = app.extensions[EXTENSION].dev_provider.sign(claims, -60)
    let_in(lambda: client.get("/api/auth/me"), PER_MINUTE + 5)
    assert client.get("/api/auth/me").status_code == 429

    bearer = client.get("/api/auth/me", headers={"Authorization": f"Bearer {expired}"})
    client.set_cookie("__session", expired)
    page = client.get("/dashboard")

    assert (bearer.status_code, page.status_code in (302, 307)) == (401, True)


def test_expired_session_is_counted_as_well(app: Flask, client: FlaskClient) -> None:
    expired = app.extensions[EXTENSION].dev_provider.sign({"sub": "user_x", "sid": "sess_x"}, -60)
    headers = {"Authorization": f"Bearer {expired}"}

    assert let_in(lambda: client.get("/api/auth/me", headers=headers), 2 * BURST) < BURST + 5


@pytest.mark.parametrize("address", ["192.0.2.7:{}", "[2001:db8::7]:{}"])
def test_port_in_an_address_makes_no_other_client(tmp_path: Path, url: str, address: str) -> None:
    with app_on(tmp_path, url, trusted_proxies=1, **LIMITS) as app:
        client = app.test_client()
        ports = iter(range(10_000, 20_000))

        def knock() -> Response:
            headers = {"X-Forwarded-For": address.format(next(ports))}
            return client.get("/api/auth/me", headers=headers)

        assert let_in(knock, PER_MINUTE + 5) <= PER_MINUTE + 2
        other = client.get("/api/auth/me", headers={"X-Forwarded-For": "198.51.100.1:5"})

    assert other.status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/static/theme.css", "/login", "/"])
def test_what_costs_nothing_is_not_counted(client: FlaskClient, path: str) -> None:
    def knock() -> Response:
        with client.get(path) as answer:
            return answer

    assert let_in(knock, PER_MINUTE + 5) == PER_MINUTE + 5


def test_bad_signatures_are_counted(client: FlaskClient) -> None:
    assert let_in(lambda: client.post("/webhooks/clerk", json={}), 2 * PER_MINUTE) < 2 * PER_MINUTE


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
def test_household_counts_as_one_address(
    client: FlaskClient, first: str, second: str, is_same: bool
) -> None:
    def knock(address: str) -> Response:
        return client.get("/api/auth/me", environ_base={"REMOTE_ADDR": address})

    let_in(lambda: knock(first), PER_MINUTE + 5)

    assert (knock(second).status_code == 429) == is_same


def test_proxy_nobody_trusts_cannot_lend_addresses(client: FlaskClient) -> None:
    lies = iter(range(1000))

    def knock() -> Response:
        return client.get("/api/auth/me", headers={"X-Forwarded-For": f"10.0.0.{next(lies)}"})

    assert let_in(knock, PER_MINUTE + 5) <= PER_MINUTE + 2


def test_browser_is_shown_a_page(client: FlaskClient, sign: Sign) -> None:
    token = sign(ALICE)["Authorization"].removeprefix("Bearer ")
    client.set_cookie("__session", token)
    let_in(lambda: client.get("/dashboard"), 2 * BURST)

    answer = client.get("/dashboard")

    assert (answer.status_code, "Muitos pedidos" in answer.text) == (429, True)


def scripts_run(redis: Redis) -> int:
    """How often Redis has been asked for an allowance so far."""
    with Probe.from_url(redis.url) as probe:
        return int(probe.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_two_processes_count_in_one_redis(tmp_path: Path, url: str, redis: Redis) -> None:
    settings = {"redis_url": redis.url, **LIMITS}
    with app_on(tmp_path, url, **settings) as one, app_on(tmp_path, url, **settings) as other:
        headers = sign_for(one)(ALICE)
        let_in(lambda: one.test_client().post("/api/auth/ensure", headers=headers), ENSURE_BURST)

        answer = other.test_client().post("/api/auth/ensure", headers=headers)

    assert answer.status_code == 429


def test_busy_person_is_counted_several_requests_at_a_time(
    tmp_path: Path, url: str, redis: Redis
) -> None:
    with app_on(tmp_path, url, redis_url=redis.url) as app:
        client, headers = app.test_client(), sign_for(app)(ALICE)
        before = scripts_run(redis)

        admitted = let_in(lambda: client.get("/api/auth/me", headers=headers), 100)

    assert (admitted, scripts_run(redis) - before < 20) == (100, True)


def test_whoever_is_granted_ahead_gets_no_more_than_the_burst(
    tmp_path: Path, url: str, redis: Redis
) -> None:
    with app_on(tmp_path, url, redis_url=redis.url, **LIMITS) as app:
        client, headers = app.test_client(), sign_for(app)(ALICE)

        admitted = let_in(lambda: client.get("/api/auth/me", headers=headers), 3 * BURST)

    assert BURST <= admitted <= BURST + 2  # a request comes free each second


def test_without_redis_each_process_goes_on_counting(tmp_path: Path, url: str) -> None:
    with app_on(tmp_path, url, redis_url="redis://127.0.0.1:1/0", **LIMITS) as app:
        client, headers = app.test_client(), sign_for(app)(ALICE)

        admitted = let_in(lambda: client.post("/api/auth/ensure", headers=headers), 10)

    assert admitted == ENSURE_BURST
