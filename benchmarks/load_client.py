"""Create users for the load test, make their requests, and decide which answers are failures."""

import os
import secrets
from functools import cache
from typing import Any

import gevent
from gevent.event import AsyncResult
from locust import HttpUser

from benchmarks.load_checks import Answer, LoadState, Visitor
from core.config import load_config
from dev.fake_clerk import DevIdentityProvider, DevUser

FIRST_LOGIN = "first login"
TRIES = 10  # of a request whose failures are tolerated

state = LoadState()


class StartBarrier:
    """A reusable barrier for greenlets that can be cancelled."""

    def __init__(self) -> None:
        self._waiting = 0
        self._release = AsyncResult()

    def wait(self, count: int) -> bool:
        """Wait until `count` greenlets wait; False if the barrier was cancelled."""
        self._waiting += 1
        release = self._release
        if self._waiting >= count and not release.ready():
            self._waiting, self._release = 0, AsyncResult()
            release.set(True)  # the return value of all waiting greenlets
        return bool(release.get())

    def cancel(self) -> None:
        """Release the waiting greenlets and all later ones with False."""
        self._release.set(False)


def new_visitor() -> Visitor:
    """Create a visitor with a new identity and a session token for it."""
    tag = secrets.token_hex(8)
    user = DevUser(f"user_load_{tag}", f"Ana{tag} Carga", f"{tag}@load.example.com")
    return Visitor(f"Ana{tag}", {"Authorization": f"Bearer {_provider().token(user)}"})


def add_visitor() -> Visitor:
    """Create a visitor and add it to the visitors that are checked at the end."""
    state.visitors.append(new_visitor())
    return state.visitors[-1]


def open_dashboard(user: HttpUser, visitor: Visitor, name: str) -> None:
    """Open the dashboard; an answer other than a page with the visitor's name is a failure."""
    send(user, visitor, "GET /dashboard", name)


def call_api(
    user: HttpUser,
    visitor: Visitor,
    call: str,
    name: str | None = None,
    expected: str | None = None,
) -> Any:
    """Return the JSON of an API call such as `GET /path`; None if it failed."""
    answer = send(user, visitor, call, name, expected)
    return answer.document if answer else None


def send(
    user: HttpUser,
    visitor: Visitor,
    call: str,
    name: str | None = None,
    expected: str | None = None,
) -> Answer | None:
    """Send a request of a visitor; returns None and counts a failure if it is refused.

    An answer without the text `expected`, by default the visitor's name, is a failure as well. A
    request whose failure is tolerated is sent again, as a browser would do.
    """
    for _ in range(TRIES):
        answer = _send_once(user, visitor, call, name, expected or visitor.first_name)
        if answer.kind not in state.tolerated:
            return answer if answer.is_good else None
        visitor.had_forgiven_failure = True
        gevent.sleep(answer.pause_seconds)
    state.problems.append(f"{visitor.first_name} got no answer in {TRIES} tries")
    return None


def _send_once(
    user: HttpUser, visitor: Visitor, call: str, name: str | None, expected: str
) -> Answer:
    method, path = call.split()
    with user.client.request(
        method,
        path,
        headers=visitor.headers,
        name=name or path,
        allow_redirects=False,
        catch_response=True,
    ) as response:
        answer = Answer(response.status_code, response.headers, response.text or "")
        if answer.kind in state.tolerated:
            response.request_meta["name"] = f"{name or path}: {answer.kind}"
            response.success()
        elif not answer.is_good:
            response.failure(answer.fault)
        elif expected not in answer.text:
            response.failure("not the answer to this person")
    return answer


@cache
def _provider() -> DevIdentityProvider:
    return DevIdentityProvider(load_config(os.environ).instance_path / "identity")
