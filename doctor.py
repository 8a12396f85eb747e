"""What `flask doctor` looks at: each part that this installation stands on, in one line each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

import adopting
import health
from extensions import background_transaction
from house import House
from provisioning import backlog

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
    yield Finding("database", database != "down", "unreachable" if database == "down" else "ok")
    if database == "down":
        return
    is_behind = database == "behind_on_migrations"
    yield Finding("migrations", not is_behind, _what_to_do() if is_behind else "at head")
    redis = health.redis(is_configured=house.config.redis_url is not None)
    yield Finding("redis", redis != "down", redis.replace("_", " "))
    if not is_behind:
        yield _asked("duplicates", partial(_duplicates, house))
        yield _asked("backlog", partial(_backlog, house))


def _what_to_do() -> str:
    is_foreign = adopting.is_to_be_adopted()
    return "another program's: flask adopt --dry-run" if is_foreign else "run: flask db upgrade"


def _asked(part: str, question: Callable[[Session], tuple[bool, str]]) -> Finding:
    try:
        with background_transaction() as session:
            return Finding(part, *question(session))
    except SQLAlchemyError as err:
        return Finding(part, is_well=False, detail=type(err).__name__)


def _duplicates(house: House, session: Session) -> tuple[bool, str]:
    doubled = backlog.count_doubled_people(session)
    shared = backlog.count_backlog(session, house.guarantee.rules).ambiguous_addresses
    detail = f"{doubled} people with two profiles, {shared} addresses with two waiting profiles"
    return not doubled, detail


def _backlog(house: House, session: Session) -> tuple[bool, str]:
    found = backlog.count_backlog(session, house.guarantee.rules)
    interval = timedelta(seconds=house.config.sweep_interval_seconds)
    since = found.waiting_since
    waits_too_long = since is not None and house.now() - since > interval * LONGEST_WAIT
    detail = (
        f"{found.waiting} without profile, {found.dead_letters} dead letters, "
        f"{found.incomplete} incomplete identities"
    )
    return not found.dead_letters and not waits_too_long, detail
