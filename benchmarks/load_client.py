"""How people of the load test come, what they ask, and when an answer to them is a failure."""

import os
import secrets
from functools import cache
from typing import Any

import gevent
from gevent.event import AsyncResult
from locust import HttpUser

from benchmarks.load_checks import Crowd, Told, Visitor
from core.config import load_config
from dev.fake_clerk import DevIdentityProvider, DevUser

FIRST_LOGIN = "first login"
TRIES = 10  # of somebody who is put off, where that is forgiven

crowd = Crowd()


class Door:
    """Opens as soon as everybody stands before it, and is closed again behind them."""

    def __init__(self) -> None:
        self._waiting = 0
        self._opening = AsyncResult()

    def enter(self, everybody: int) -> bool:
        """Wait for the others; False where they will never come."""
        self._waiting += 1
        opening = self._opening
        if self._waiting >= everybody and not opening.ready():
            self._waiting, self._opening = 0, AsyncResult()
            opening.set(True)  # the value that everybody who waits is given
        return bool(opening.get())

    def shut(self) -> None:
        """Send everybody home who waits, and whoever comes later."""
        self._opening.set(False)


def invite() -> Visitor:
    """A person with an identity of their own and a session token that says so."""
    tag = secrets.token_hex(8)
    person = DevUser(f"user_load_{tag}", f"Ana{tag} Carga", f"{tag}@load.example.com")
    return Visitor(f"Ana{tag}", {"Authorization": f"Bearer {_stand_in().token(person)}"})


def arrive() -> Visitor:
    """Somebody new, who counts from now on."""
    crowd.visitors.append(invite())
    return crowd.visitors[-1]


def open_dashboard(user: HttpUser, visitor: Visitor, name: str) -> None:
    """Open the page; anything but a page that greets this very person is a failure."""
    ask(user, visitor, "GET /dashboard", name)


def read(
    user: HttpUser,
    visitor: Visitor,
    call: str,
    name: str | None = None,
    expecting: str | None = None,
) -> Any:
    """What the API says to such a call, or None where it refused."""
    told = ask(user, visitor, call, name, expecting)
    return told.document if told else None


def ask(
    user: HttpUser,
    visitor: Visitor,
    call: str,
    name: str | None = None,
    expecting: str | None = None,
) -> Told | None:
    """Ask for something that names this person; None where that is refused, which is a failure.

    So is an answer in which what they expect, by default their name, is missing. Whoever is put
    off in a way that is forgiven comes again, as a browser would.
    """
    for _ in range(TRIES):
        told = _ask_once(user, visitor, call, name, expecting or visitor.first_name)
        if told.kind not in crowd.forgiven:
            return told if told.is_good else None
        visitor.was_put_off = True
        gevent.sleep(told.pause_seconds)
    crowd.problems.append(f"{visitor.first_name} was put off {TRIES} times")
    return None


def _ask_once(
    user: HttpUser, visitor: Visitor, call: str, name: str | None, expecting: str
) -> Told:
    method, path = call.split()
    with user.client.request(
        method,
        path,
        headers=visitor.headers,
        name=name or path,
        allow_redirects=False,
        catch_response=True,
    ) as response:
        told = Told(response.status_code, response.headers, response.text or "")
        if told.kind in crowd.forgiven:
            response.request_meta["name"] = f"{name or path}: {told.kind}"
            response.success()
        elif not told.is_good:
            response.failure(told.fault)
        elif expecting not in told.text:
            response.failure("not the answer to this person")
    return told


@cache
def _stand_in() -> DevIdentityProvider:
    return DevIdentityProvider(load_config(os.environ).instance_path / "identity")
