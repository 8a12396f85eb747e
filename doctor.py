"""What `flask doctor` looks at: each part that this installation stands on, in one line each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

import adopting
import health
from extensions import background_transaction
from house import House
from provisioning import backlog, runs
from provisioning.backlog import Backlog
from provisioning.runs import Blocking

TAKEN_WITHIN = timedelta(seconds=30)  # a queued or dead sweep, where a scheduler runs
LONGEST_WAIT = 5  # sweep intervals; whoever waits longer is not being helped


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one part; `detail` tells what to do where it is not well."""

    part: str
    is_well: bool
    detail: str


def examine(house: House) -> Iterator[Finding]:
    """Look at everything but Clerk, which `identity/checkup.py` looks at."""
    database = health.database()
    is_reached = database in ("ok", "behind_on_migrations")
    yield Finding("database", is_reached, "ok" if is_reached else "unreachable")
    if not is_reached:
        return
    is_behind = database == "behind_on_migrations"
    yield Finding("migrations", not is_behind, _what_to_do() if is_behind else "at head")
    redis = health.redis(is_configured=house.config.redis_url is not None)
    yield Finding("redis", redis != "down", redis.replace("_", " "))
    if not is_behind:
        yield _sweep()
        yield from _waiting(house)


def _what_to_do() -> str:
    is_foreign = adopting.is_to_be_adopted()
    return "another program's: flask adopt --dry-run" if is_foreign else "run: flask db upgrade"


def _sweep() -> Finding:
    """Whether a sweep waits for a process that does not come: it keeps others from starting."""
    try:
        with background_transaction() as session:
            blocking, age = runs.blocking(session), runs.since_success(session)
    except SQLAlchemyError as err:
        return Finding("sweep", is_well=False, detail=type(err).__name__)
    if blocking is not None and blocking.since > TAKEN_WITHIN:
        return Finding("sweep", is_well=False, detail=_why_blocked(blocking))
    detail = "none yet" if age is None else f"last success {_rounded(age)} ago"
    return Finding("sweep", is_well=True, detail=detail)


def _why_blocked(blocking: Blocking) -> str:
    if blocking.is_queued:
        state = "is queued and taken by no scheduler"
    else:
        state = "has no heartbeat, its process has died"
    lasting = f"sweep {blocking.run_id} {state}, for {_rounded(blocking.since)}"
    return f"{lasting}: start flask scheduler, or run flask sweep, which takes it over"


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))


def _waiting(house: House) -> Iterator[Finding]:
    """Who waits, and for what; counted once for both lines."""
    try:
        with background_transaction() as session:
            doubled = backlog.count_doubled_people(session)
            found = backlog.count_backlog(session, house.guarantee.rules)
    except SQLAlchemyError as err:
        yield Finding("backlog", is_well=False, detail=type(err).__name__)
        return
    shared = found.ambiguous_addresses
    detail = f"{doubled} people with two profiles, {shared} addresses with two waiting profiles"
    yield Finding("duplicates", not doubled, detail)
    yield _backlog(found, house)


def _backlog(found: Backlog, house: House) -> Finding:
    interval = timedelta(seconds=house.config.sweep_interval_seconds)
    since = found.waiting_since
    waits_too_long = since is not None and house.now() - since > interval * LONGEST_WAIT
    detail = (
        f"{found.waiting} without profile, {found.dead_letters} dead letters, "
        f"{found.incomplete} incomplete identities"
    )
    return Finding("backlog", not found.dead_letters and not waits_too_long, detail)
