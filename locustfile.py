"""First logins, alone and all at once, stampedes of one person's devices, and returning readers.

    locust -f locustfile.py --headless -u 50 -r 50 -t 20s --host http://127.0.0.1:8000
    locust -f locustfile.py --headless -u 50 -t 2m --shape class-start --host http://127.0.0.1:8000

Run it beside an app that uses the development stand-in: the tokens are signed with its key, read
from the same instance folder. Ends with a check through the API that everybody who came has
exactly one profile; exit code 1 on any failed request, any duplicate, or slow first logins.
"""

import sys
from typing import Any

import requests
from gevent.pool import Pool
from locust import HttpUser, LoadTestShape, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from benchmarks.load_checks import (
    FORGIVABLE,
    Visitor,
    faults_of_a_stampede,
    faults_of_pace,
    faults_of_profiles,
)
from benchmarks.load_client import FIRST_LOGIN, Door, arrive, crowd, invite, open_dashboard, read
from benchmarks.load_shapes import SHAPES, Plan

DEVICES = 10
USUAL_PEOPLE = 50
SLOWEST_FIRST_LOGIN_MS = 2000  # CONTRACT section 8, held to at the 95th percentile

door = Door()


class FirstLogin(HttpUser):
    """One new person after the other, each of whom expects a dashboard from the first page."""

    wait_time = between(0.1, 0.5)
    weight = 5

    @task
    def sign_in_for_the_first_time(self) -> None:
        """Open the dashboard as somebody whom the program has never seen."""
        visitor = arrive()
        open_dashboard(self, visitor, FIRST_LOGIN)
        visitor.note(read(self, visitor, "GET /api/mentorados/me"))


class AtOnce(HttpUser):
    """One of many who sign in at the very same moment; and then again, as somebody new."""

    abstract = True  # comes with its shape only

    @task
    def sign_in_with_all_the_others(self) -> None:
        """Have everything ready, wait for the others, and open the dashboard."""
        everybody, newcomer = self.environment.runner.target_user_count, invite()
        self.client.close()  # who is new has no connection yet
        if not door.enter(everybody):
            raise StopUser
        crowd.visitors.append(newcomer)
        open_dashboard(self, newcomer, f"{FIRST_LOGIN}, {everybody} at once")
        open_dashboard(self, newcomer, f"{FIRST_LOGIN}, then the dashboard")
        newcomer.note(read(self, newcomer, "GET /api/mentorados/me"))


class Stampede(HttpUser):
    """One new person whose devices all sign in at the same moment."""

    wait_time = between(0.5, 1.5)
    weight = 2

    @task
    def sign_in_on_every_device(self) -> None:
        """Exactly one device may be told that it created the profile."""
        visitor = arrive()
        answers = Pool(DEVICES).map(lambda _: self._ensure(visitor), range(DEVICES))
        crowd.problems.extend(faults_of_a_stampede(visitor, answers))

    def _ensure(self, visitor: Visitor) -> Any:
        name = f"{FIRST_LOGIN}, {DEVICES} devices"
        answer = read(self, visitor, "POST /api/auth/ensure", name)
        visitor.note(answer and answer["mentorado"])
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
        read(self, self.visitor, "GET /api/auth/me")
        read(self, self.visitor, "GET /api/mentorados/me/overview", expecting="totalRevenue")


class Shape(LoadTestShape):
    """What Locust asks once a second: how many people there are, and whether it is over."""

    abstract = True  # or Locust would take it without being asked

    def __init__(self, plan: Plan, people: int, seconds: float) -> None:
        super().__init__()
        self._plan, self._people, self._seconds = plan, people, seconds

    def tick(self) -> tuple[int, float] | None:
        """The number of people wanted now, and how many of them come in a second."""
        number = self._plan.crowd(self._people, self.get_run_time() / self._seconds)
        rate = self._plan.arrivals_per_second(self._people, self._seconds)
        return None if number is None else (number, rate)


@events.init_command_line_parser.add_listener
def offer_options(parser: LocustArgumentParser) -> None:
    """Beside Locust's own: -u and -t say how many people a shape has and how long it takes."""
    add = parser.add_argument_group("Neon Dashboard").add_argument
    add("--shape", choices=SHAPES, help="who comes when; the usual crowd where not given")
    add("--forgive", choices=FORGIVABLE, action="append", default=[], help="no failure then")
    add("--slowest-first-login", type=float, default=SLOWEST_FIRST_LOGIN_MS, help="ms, at p95")


@events.init.add_listener
def take_shape(environment: Environment, **_: Any) -> None:
    """Have the people of the shape that was asked for, and nobody else."""
    options: Any = environment.parsed_options
    crowd.forgiven = frozenset(options.forgive)
    if options.shape is None:
        return
    plan = SHAPES[options.shape]
    environment.user_classes = [globals()[name] for name in plan.who]
    for kind in environment.user_classes:
        kind.weight = plan.who[kind.__name__]
    people, seconds = options.num_users or USUAL_PEOPLE, options.run_time or plan.usual_seconds
    environment.shape_class = Shape(plan, people, seconds)


@events.test_stopping.add_listener
def close_the_door(**_: Any) -> None:
    """Let go whoever waits for others that will not come any more."""
    door.shut()


@events.test_stop.add_listener
def look_back(environment: Environment, **_: Any) -> None:
    """Ask the API about everybody who came, now that it is quiet, and judge what is known."""
    options: Any = environment.parsed_options
    runner: Any = environment.runner
    with requests.Session() as session:
        statuses = [_status_of(visitor, session, environment) for visitor in crowd.visitors]
    crowd.problems.extend(faults_of_profiles(crowd.visitors, statuses))
    crowd.problems.extend(faults_of_pace(_paces(environment), options.slowest_first_login))
    for problem in crowd.problems:  # for Locust's report, which has no other place for them
        runner.log_exception("judgement", problem, problem)


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Say what is wrong, and let the exit code say so; failed requests are counted by Locust."""
    for name, milliseconds in _paces(environment).items():
        print(f"p95 of {name}: {milliseconds:.0f} ms", file=sys.stderr)
    for problem in crowd.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    if crowd.problems:
        environment.process_exit_code = 1
    print(f"{len(crowd.visitors)} people signed in for the first time", file=sys.stderr)


def _status_of(visitor: Visitor, session: requests.Session, environment: Environment) -> str:
    url = f"{environment.host}/api/auth/me"
    answer = session.get(url, headers=visitor.headers, timeout=10).json()
    if answer["status"] == "ready":
        visitor.note(answer["mentorado"])
    return str(answer["status"])


def _paces(environment: Environment) -> dict[str, float]:
    """How many milliseconds the first logins of each kind took, at the 95th percentile."""
    return {
        entry.name: entry.get_response_time_percentile(0.95)
        for entry in environment.stats.entries.values()
        if entry.name.startswith(FIRST_LOGIN)
    }
