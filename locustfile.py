"""Locust users: first logins, simultaneous first logins, many devices of one user, and readers.

    locust -f locustfile.py --headless -u 50 -r 50 -t 20s --host http://127.0.0.1:8000
    locust -f locustfile.py --headless -u 50 -t 2m --shape class-start --host http://127.0.0.1:8000

The app must use the development identity provider: tokens are signed with its key, which is read
from the same instance folder. At the end, a check through the API verifies that each user has
exactly one profile. The exit code is 1 after a failed request, a duplicate or slow first logins.
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
    TOLERABLE,
    Visitor,
    check_login_times,
    check_profiles,
    check_stampede,
)
from benchmarks.load_client import (
    FIRST_LOGIN,
    StartBarrier,
    add_visitor,
    call_api,
    new_visitor,
    open_dashboard,
    state,
)
from benchmarks.load_shapes import SHAPES, LoadShape

DEVICES = 10
DEFAULT_USERS = 50
SLOWEST_FIRST_LOGIN_MS = 2000  # docs/reference/contract.md#bounds, at the 95th percentile

barrier = StartBarrier()


class FirstLogin(HttpUser):
    """Signs in as one new user after the other; each must get a dashboard on the first page."""

    wait_time = between(0.1, 0.5)
    weight = 5

    @task
    def sign_in_for_the_first_time(self) -> None:
        """Open the dashboard as a new user."""
        visitor = add_visitor()
        open_dashboard(self, visitor, FIRST_LOGIN)
        visitor.add_profile(call_api(self, visitor, "GET /api/mentorados/me"))


class AtOnce(HttpUser):
    """One of many users who sign in at the same moment, again and again as new users."""

    abstract = True  # only its shape uses it

    @task
    def sign_in_at_once(self) -> None:
        """Prepare a new user, wait for the others, and open the dashboard."""
        user_count, visitor = self.environment.runner.target_user_count, new_visitor()
        self.client.close()  # a new user has no connection yet
        if not barrier.wait(user_count):
            raise StopUser
        state.visitors.append(visitor)
        open_dashboard(self, visitor, f"{FIRST_LOGIN}, {user_count} at once")
        open_dashboard(self, visitor, f"{FIRST_LOGIN}, then the dashboard")
        visitor.add_profile(call_api(self, visitor, "GET /api/mentorados/me"))


class Stampede(HttpUser):
    """One new user whose devices all sign in at the same moment."""

    wait_time = between(0.5, 1.5)
    weight = 2

    @task
    def sign_in_on_every_device(self) -> None:
        """Ensure on all devices at once; exactly one answer may have `created` true."""
        visitor = add_visitor()
        answers = Pool(DEVICES).map(lambda _: self._ensure(visitor), range(DEVICES))
        state.problems.extend(check_stampede(visitor, answers))

    def _ensure(self, visitor: Visitor) -> Any:
        name = f"{FIRST_LOGIN}, {DEVICES} devices"
        answer = call_api(self, visitor, "POST /api/auth/ensure", name)
        visitor.add_profile(answer and answer["mentorado"])
        return answer


class Reader(HttpUser):
    """A user with a profile who reads the dashboard and the API."""

    wait_time = between(0.2, 1.0)
    weight = 3

    def on_start(self) -> None:
        """Sign in once."""
        self.visitor = add_visitor()
        open_dashboard(self, self.visitor, FIRST_LOGIN)

    @task(3)
    def read_dashboard(self) -> None:
        """Read the page again."""
        open_dashboard(self, self.visitor, "returning")

    @task
    def read_api(self) -> None:
        """Read the API."""
        call_api(self, self.visitor, "GET /api/auth/me")
        call_api(self, self.visitor, "GET /api/mentorados/me/overview", expected="totalRevenue")


class Shape(LoadTestShape):
    """Locust's load shape for a plan; Locust calls `tick` once a second."""

    abstract = True  # otherwise Locust would use it by default

    def __init__(self, plan: LoadShape, users: int, seconds: float) -> None:
        super().__init__()
        self._plan, self._users, self._seconds = plan, users, seconds

    def tick(self) -> tuple[int, float] | None:
        """Return the current number of users and the arrivals per second; None at the end."""
        number = self._plan.active_users(self._users, self.get_run_time() / self._seconds)
        rate = self._plan.arrivals_per_second(self._users, self._seconds)
        return None if number is None else (number, rate)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add options to Locust's own; -u and -t are the users and the duration of a shape."""
    add = parser.add_argument_group("Neon Dashboard").add_argument
    add("--shape", choices=SHAPES, help="a load shape; by default constant mixed users")
    add("--tolerate", choices=TOLERABLE, action="append", default=[], help="count as no failure")
    add("--slowest-first-login", type=float, default=SLOWEST_FIRST_LOGIN_MS, help="ms, at p95")


@events.init.add_listener
def apply_shape(environment: Environment, **_: Any) -> None:
    """Use the user classes and weights of the chosen shape."""
    options: Any = environment.parsed_options
    state.tolerated = frozenset(options.tolerate)
    if options.shape is None:
        return
    plan = SHAPES[options.shape]
    environment.user_classes = [globals()[name] for name in plan.weights]
    for user_class in environment.user_classes:
        user_class.weight = plan.weights[user_class.__name__]
    users, seconds = options.num_users or DEFAULT_USERS, options.run_time or plan.default_seconds
    environment.shape_class = Shape(plan, users, seconds)


@events.test_stopping.add_listener
def cancel_barrier(**_: Any) -> None:
    """Release the users who wait for others; no more users will start."""
    barrier.cancel()


@events.test_stop.add_listener
def check_all_profiles(environment: Environment, **_: Any) -> None:
    """Read the status of each visitor from the API after the load, and collect all problems."""
    options: Any = environment.parsed_options
    runner: Any = environment.runner
    with requests.Session() as session:
        statuses = [_status_of(visitor, session, environment) for visitor in state.visitors]
    state.problems.extend(check_profiles(state.visitors, statuses))
    state.problems.extend(
        check_login_times(_first_login_p95(environment), options.slowest_first_login)
    )
    for problem in state.problems:  # Locust's report has no other place for them
        runner.log_exception("check", problem, problem)


@events.quitting.add_listener
def report_problems(environment: Environment, **_: Any) -> None:
    """Print the problems and set the exit code; Locust itself counts failed requests."""
    for name, milliseconds in _first_login_p95(environment).items():
        print(f"p95 of {name}: {milliseconds:.0f} ms", file=sys.stderr)
    for problem in state.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    if state.problems:
        environment.process_exit_code = 1
    print(f"{len(state.visitors)} users signed in for the first time", file=sys.stderr)


def _status_of(visitor: Visitor, session: requests.Session, environment: Environment) -> str:
    url = f"{environment.host}/api/auth/me"
    answer = session.get(url, headers=visitor.headers, timeout=10).json()
    if answer["status"] == "ready":
        visitor.add_profile(answer["mentorado"])
    return str(answer["status"])


def _first_login_p95(environment: Environment) -> dict[str, float]:
    """Return the 95th percentile of each kind of first login, in milliseconds."""
    return {
        entry.name: entry.get_response_time_percentile(0.95)
        for entry in environment.stats.entries.values()
        if entry.name.startswith(FIRST_LOGIN)
    }
