"""Concurrent first logins, stampedes of one person's devices, and returning readers.

    locust -f locustfile.py --headless -u 50 -r 50 -t 20s --host http://127.0.0.1:8000

Run it beside an app that uses the development stand-in: the tokens are signed with its key, read
from the same instance folder. Ends with a check through the API that everybody who came has
exactly one profile; exit code 1 on any failed request, any duplicate, or slow first logins.
"""

import os
import secrets
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import requests
from gevent.pool import Pool
from locust import HttpUser, between, events, task
from locust.env import Environment

from config import load_config
from identity.local import LocalIdentityProvider, Person

DEVICES = 10
FIRST_LOGIN = "first login"
SLOWEST_FIRST_LOGIN_MS = 2000  # CONTRACT section 8, held to at the 95th percentile


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who signs in for the first time, and every profile they were ever shown."""

    first_name: str
    headers: dict[str, str]
    profiles: set[int] = field(default_factory=set)


visitors: list[Visitor] = []
problems: list[str] = []


class FirstLogin(HttpUser):
    """One new person after the other, each of whom expects a dashboard from the first page."""

    wait_time = between(0.1, 0.5)
    weight = 5

    @task
    def sign_in_for_the_first_time(self) -> None:
        """Open the dashboard as somebody whom the program has never seen."""
        visitor = arrive()
        open_dashboard(self, visitor, FIRST_LOGIN)
        note(visitor, self.client.get("/api/mentorados/me", headers=visitor.headers).json())


class Stampede(HttpUser):
    """One new person whose devices all sign in at the same moment."""

    wait_time = between(0.5, 1.5)
    weight = 2

    @task
    def sign_in_on_every_device(self) -> None:
        """Exactly one device may be told that it created the profile."""
        visitor = arrive()
        answers = Pool(DEVICES).map(lambda _: self._ensure(visitor), range(DEVICES))
        created = sum(answer["created"] for answer in answers)
        if created != 1:
            problems.append(f"{created} of {DEVICES} devices were told created:true")

    def _ensure(self, visitor: Visitor) -> dict[str, Any]:
        name = f"{FIRST_LOGIN}, {DEVICES} devices"
        response = self.client.post("/api/auth/ensure", headers=visitor.headers, name=name)
        answer: dict[str, Any] = response.json()
        note(visitor, answer["mentorado"])
        return answer


class Reader(HttpUser):
    """Somebody who has a profile and comes back to look at it."""

    wait_time = between(0.2, 1.0)
    weight = 3

    def on_start(self) -> None:
        """Sign in once."""
        self.visitor = arrive()
        open_dashboard(self, self.visitor, FIRST_LOGIN)

    @task(3)
    def look_at_the_dashboard(self) -> None:
        """Read the page again."""
        open_dashboard(self, self.visitor, "returning")

    @task
    def ask_the_api(self) -> None:
        """Read what a program of theirs would read."""
        self.client.get("/api/auth/me", headers=self.visitor.headers)
        self.client.get("/api/mentorados/me/overview", headers=self.visitor.headers)


def arrive() -> Visitor:
    """A person with an identity of their own and a session token that says so."""
    tag = secrets.token_hex(8)
    person = Person(f"user_load_{tag}", f"Ana{tag} Carga", f"{tag}@load.example.com")
    headers = {"Authorization": f"Bearer {_stand_in().token(person)}"}
    visitors.append(Visitor(f"Ana{tag}", headers))
    return visitors[-1]


def open_dashboard(user: HttpUser, visitor: Visitor, name: str) -> None:
    """Open the page; anything but a page that greets this very person is a failure."""
    with user.client.get(
        "/dashboard",
        headers=visitor.headers,
        name=name,
        allow_redirects=False,
        catch_response=True,
    ) as page:
        if page.status_code != 200 or visitor.first_name not in (page.text or ""):
            page.failure(f"no dashboard of theirs: {page.status_code}")


def note(visitor: Visitor, mentorado: dict[str, Any]) -> None:
    """Remember which profile they were shown."""
    visitor.profiles.add(mentorado["id"])


@events.test_stop.add_listener
def check_that_everybody_has_one_profile(environment: Environment, **_: Any) -> None:
    """Ask the API about everybody who came, now that it is quiet."""
    with requests.Session() as session:
        for visitor in visitors:
            answer = session.get(
                f"{environment.host}/api/auth/me", headers=visitor.headers, timeout=10
            ).json()
            if answer["status"] == "ready":
                note(visitor, answer["mentorado"])
            if answer["status"] != "ready" or len(visitor.profiles) != 1:
                problems.append(f"{visitor.first_name}: {answer['status']}, {visitor.profiles}")
    shown = [profile for visitor in visitors for profile in visitor.profiles]
    if len(shown) != len(set(shown)):
        problems.append("one profile was shown to two people")


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Say what is wrong, and let the exit code say so; failed requests are counted by Locust."""
    problems.extend(_slow_first_logins(environment))
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    if problems:
        environment.process_exit_code = 1
    print(f"{len(visitors)} people signed in for the first time", file=sys.stderr)


def _slow_first_logins(environment: Environment) -> list[str]:
    entries = [e for e in environment.stats.entries.values() if e.name.startswith(FIRST_LOGIN)]
    if not entries:
        return ["nobody signed in for the first time"]
    p95 = {entry.name: entry.get_response_time_percentile(0.95) for entry in entries}
    return [
        f"p95 of {name}: {milliseconds} ms, more than {SLOWEST_FIRST_LOGIN_MS}"
        for name, milliseconds in p95.items()
        if milliseconds > SLOWEST_FIRST_LOGIN_MS
    ]


@cache
def _stand_in() -> LocalIdentityProvider:
    return LocalIdentityProvider(load_config(os.environ).instance_path / "identity")
