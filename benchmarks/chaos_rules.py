"""The rules of a chaos run, checked on the recorded answers, commits, commands and memory.

Each rule takes the whole `Record` and yields a text for each observation that breaks it. This
module does not use the program under test.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Any

LONGEST_ANSWER_SECONDS = 2.5
LONGEST_STALE_SECONDS = 5.0
ROUNDING_SECONDS = 0.1  # of clocks and times to live
RECOVERY_SECONDS = 2.0  # from the return of the database until all requests are served
UNAVAILABLE = frozenset({"database_unavailable", "provisioning_unavailable"})
SETTLING_SECONDS = 3.0  # from the return of Redis until every process is connected again
MEMORY_WARM_UP = 0.4  # share of a process's life in which pools and caches fill
MEMORY_WINDOW = 0.2  # share of its life whose median is compared: single values vary
MOST_MEMORY_GROWTH = 0.1
LEAST_LIFE_SECONDS = 300.0  # of a process whose memory is checked
PROFILE, ADMINISTRATION = "profile", "administration"
# By these actions an admin chooses the owner, whatever the addresses are.
CHOSEN_BY_AN_ADMIN = frozenset({"link", "merge"})
NEEDS_ITS_OWNER = frozenset({"edit", "delete"})


@dataclass(frozen=True, slots=True)
class Shown:
    """The data in an answer of status 200 or 201: whose it is, and of which kind.

    `access` is what the user needs for it: a usable profile, or the admin role.
    """

    access: str | None = None
    clerk_id: str | None = None
    owner_id: int | None = None
    mentorado_id: int | None = None
    is_created: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and its answer; `status` is 0 if the connection broke.

    Times are epoch seconds of the machine's clock.
    """

    operation: str
    host: str
    method: str
    path: str
    clerk_id: str | None
    request_id: str
    started: float
    ended: float
    status: int
    code: str | None = None
    shown: Shown = Shown()

    @property
    def seconds(self) -> float:
        """Return the seconds from the request to the answer."""
        return self.ended - self.started

    @property
    def is_good(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 400


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a committed transaction has written, as the trigger recorded it.

    `old` is empty for a new row and `new` for a deleted one. `owner` holds facts about the user of
    the row, read in the same transaction; it is empty without a user.
    """

    seq: int
    transaction: int
    committed: float
    table: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    owner: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One run of a flask command; `exit_code` is negative if it was killed."""

    name: str
    started: float
    ended: float
    exit_code: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A time in which a fault was active."""

    what: str
    started: float
    ended: float

    def overlaps(self, started: float, ended: float) -> bool:
        """Whether the two times overlap."""
        return self.started <= ended and started <= self.ended


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory of one process at one time."""

    process: str
    at: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Record:
    """All observations of one run.

    `leftovers` are rows that the database must not hold at the end, by the kind of violation.
    """

    answers: Sequence[Answer] = ()
    changes: Sequence[Change] = ()
    commands: Sequence[Command] = ()
    redis_trouble: Sequence[Interval] = ()
    database_trouble: Sequence[Interval] = ()
    killed_workers: Sequence[Interval] = ()
    memory: Sequence[Memory] = ()
    leftovers: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """One observation that breaks a rule, with the details to find its cause."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class UserState:
    """The rights of a user from one commit until the next one that concerns the user."""

    since: float
    transaction: int
    is_denied: bool = False
    is_admin: bool = False
    mentorado_id: int | None = None
    is_active: bool = False

    def grants(self, access: str) -> bool:
        """Whether the user may get data that needs that access."""
        if self.is_denied:
            return False
        if access == ADMINISTRATION:
            return self.is_admin
        # A user without a profile gets one by the request itself.
        return self.mentorado_id is None or self.is_active


Timeline = Sequence[UserState]


def judge(record: Record, *, is_timed: bool = True) -> list[Violation]:
    """Apply every rule; rules on times, which a busy machine breaks, only if `is_timed`."""
    found = [*_applied(RULES, record), *(_applied(TIMED_RULES, record) if is_timed else ())]
    leftovers = record.leftovers.items()
    return found + [Violation(name, detail) for name, details in leftovers for detail in details]


def notes(record: Record) -> list[Violation]:
    """Return observations that are unusual but no violations."""
    return list(_applied(NOTES, record))


def server_errors(record: Record) -> Iterator[str]:
    """An answer has status 500."""
    return (_describe(answer) for answer in record.answers if answer.status == 500)


def refusals_without_code(record: Record) -> Iterator[str]:
    """An error answer has no code."""
    refused = (answer for answer in record.answers if answer.status >= 400)
    return (_describe(answer) for answer in refused if answer.code is None)


def lost_answers(record: Record) -> Iterator[str]:
    """A connection broke although no process of that host was killed meanwhile."""
    for answer in record.answers:
        if answer.status == 0 and not _is_excused(answer, record.killed_workers):
            yield _describe(answer)


def slow_answers(record: Record) -> Iterator[str]:
    """An answer took longer than 2.5 seconds."""
    return (_describe(a) for a in record.answers if a.seconds > LONGEST_ANSWER_SECONDS)


def refusals_without_outage(record: Record) -> Iterator[str]:
    """An answer says that the database is unavailable, after it was available for 2 seconds."""
    for answer in record.answers:
        begin = answer.started - RECOVERY_SECONDS
        is_away = any(t.overlaps(begin, answer.ended) for t in record.database_trouble)
        if answer.code in UNAVAILABLE and not is_away:
            yield _describe(answer)


def answers_for_another_user(record: Record) -> Iterator[str]:
    """An answer shows another user than the one who sent the request."""
    clerk_ids = {user["id"]: user["clerk_id"] for user in _users(record.changes)}
    for answer in record.answers:
        owner = clerk_ids.get(answer.shown.owner_id) if answer.shown.owner_id else None
        for clerk_id in {answer.shown.clerk_id, owner} - {None, answer.clerk_id}:
            yield f"{_describe(answer)} showed {clerk_id}"


def creations_reported_twice(record: Record) -> Iterator[str]:
    """More than one answer has `created` true for the same profile."""
    creations: dict[int | None, list[Answer]] = defaultdict(list)
    for answer in record.answers:
        if answer.shown.is_created:
            creations[answer.shown.mentorado_id].append(answer)
    for mentorado_id, answers in creations.items():
        if len(answers) > 1:
            yield f"mentorado {mentorado_id}: " + "; ".join(map(_describe, answers))


def links_without_proof(record: Record) -> Iterator[str]:
    """A profile was linked to a user without its address as verified one, or was already owned."""
    for changes in _transactions(record.changes):
        chosen = _chosen_by_an_admin(changes)
        for change in filter(_is_link, changes):
            if change.new["id"] not in chosen and not _is_address_verified(change):
                yield f"{_describe_link(change)} of address {change.new['address']}: {change.owner}"


def profiles_for_denied_users(record: Record) -> Iterator[str]:
    """A blocked user got a profile automatically, or a deleted user got one at all."""
    for changes in _transactions(record.changes):
        chosen = _chosen_by_an_admin(changes)
        for change in filter(_is_gain, changes):
            is_blocked = change.owner.get("blocked") and change.new["id"] not in chosen
            if is_blocked or change.owner.get("deleted"):
                yield f"{_describe_link(change)}: {change.owner}"


def addresses_registered_twice(record: Record) -> Iterator[str]:
    """An address was written into a second profile while neither had ever had an owner."""
    never_owned: dict[str | None, set[int]] = defaultdict(set)  # profile ids by address
    for change in (c for rows in _transactions(record.changes) for c in rows):
        if change.table != "mentorados":
            continue
        profile_id = (change.new or change.old)["id"]
        old_address, address = change.old.get("address"), change.new.get("address")
        was_never_owned = not change.old or profile_id in never_owned[old_address]
        never_owned[old_address].discard(profile_id)
        if was_never_owned and address is not None and change.new["user_id"] is None:
            if never_owned[address]:
                others = sorted(never_owned[address])
                yield f"{address}: mentorados {others} and {profile_id}, {_commit(change)}"
            never_owned[address].add(profile_id)


def changes_behind_the_owner(record: Record) -> Iterator[str]:
    """An admin's edit or deletion of a profile was recorded for another user than its owner."""
    for change in record.changes:
        owner_id = change.owner.get("user_id")
        if _action(change) in NEEDS_ITS_OWNER and change.new["user_id"] != owner_id:
            yield (
                f"{_action(change)} of mentorado {change.new['mentorado_id']} of user {owner_id} "
                f"was recorded for user {change.new['user_id']}, {_commit(change)}"
            )


def months_of_another_user(record: Record) -> Iterator[str]:
    """A month was written into the profile of another user; its note names the writer."""
    for change in record.changes:
        if change.table != "metricas_mensais" or not change.new or not change.owner:
            continue
        writer, owner = change.new["note"], change.owner["clerk_id"]
        if writer not in (None, change.old.get("note"), owner):
            yield f"{writer} wrote into the profile of {owner}, {_commit(change)}"


def served_too_long(record: Record) -> Iterator[str]:
    """A user was served more than 5 seconds after the commit of a denial."""
    for answer, timeline in _served(record):
        begin = answer.started - LONGEST_STALE_SECONDS - ROUNDING_SECONDS
        if not _is_granted(timeline, answer, begin):
            yield f"{_describe(answer)}: {_in_force(timeline, answer.started)}"


def served_with_redis_well(record: Record) -> Iterator[str]:
    """A user was served by a request that began after the answer to the denial, with Redis well."""
    acknowledged = _acknowledged(record)
    for answer, timeline in _served(record):
        if _is_granted(timeline, answer, answer.started):
            continue
        denial = _denial(timeline, answer)
        ahead = answer.started - acknowledged.get(denial.transaction, answer.started)
        if ahead > 0 and _is_redis_well(record, denial.since, answer.ended):
            yield f"{_describe(answer)}: {denial}, acknowledged {ahead:.3f} s before"


def profiles_shown_too_long(record: Record) -> Iterator[str]:
    """An answer shows a profile that was unlinked from the user more than 5 seconds before."""
    for answer, timeline in _served(record):
        shown = answer.shown.mentorado_id
        begin = answer.started - LONGEST_STALE_SECONDS - ROUNDING_SECONDS
        if answer.shown.access != PROFILE or shown is None:
            continue
        if shown not in {s.mentorado_id for s in _between(timeline, begin, answer.ended)}:
            state = _in_force(timeline, answer.started)
            yield f"{_describe(answer)} showed mentorado {shown}: {state}"


def commands_that_broke(record: Record) -> Iterator[str]:
    """A command ended with a traceback instead of one line with the reason."""
    for command in record.commands:
        if "Traceback" in command.output:
            yield f"{command.name} at {command.started:.3f}: {command.output.splitlines()[-1]}"


def growing_memory(record: Record) -> Iterator[str]:
    """The memory of a process grew after its warm-up."""
    by_process: dict[str, list[Memory]] = defaultdict(list)
    for sample in record.memory:
        by_process[sample.process].append(sample)
    for process, samples in by_process.items():
        growth = _growth(samples)
        if growth is not None and growth > MOST_MEMORY_GROWTH:
            yield f"{process} grew by {growth:.1%}"


Rule = Callable[[Record], Iterable[str]]
RULES: dict[str, Rule] = {
    "answered with an error of ours": server_errors,
    "refused without a code": refusals_without_code,
    "connection broken without a killed process": lost_answers,
    "shown another user's data": answers_for_another_user,
    "a creation reported twice": creations_reported_twice,
    "linked without proof of the address": links_without_proof,
    "profile given to a denied user": profiles_for_denied_users,
    "address registered twice": addresses_registered_twice,
    "admin's change missed the owner": changes_behind_the_owner,
    "month written into another user's profile": months_of_another_user,
    "served more than 5 s after a denial": served_too_long,
    "served after an acknowledged denial with Redis well": served_with_redis_well,
    "shown a profile more than 5 s after it was taken away": profiles_shown_too_long,
    "command ended with a traceback": commands_that_broke,
}
TIMED_RULES: dict[str, Rule] = {
    "answered later than 2.5 s": slow_answers,
    "memory grew": growing_memory,
}
# These may happen after a long wait for a lock, but should be rare.
NOTES: dict[str, Rule] = {
    "refused as unavailable with the database well": refusals_without_outage,
}


@dataclass(slots=True)
class _Tables:
    """The users and profiles at one moment, updated change by change."""

    users: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    own: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # profiles by their user's id

    def apply(self, change: Change) -> set[int]:
        """Apply one change; returns the ids of the users that it concerns."""
        if change.table == "users":
            self.users[change.new["id"]] = change.new
            return {change.new["id"]}
        if change.table != "mentorados":
            return set()
        concerned: set[int] = set()
        if (before := change.old.get("user_id")) is not None:
            concerned.add(before)
            if self.own.get(before, {}).get("id") == change.old["id"]:
                del self.own[before]
        if (after := change.new.get("user_id")) is not None:
            concerned.add(after)
            self.own[after] = change.new
        return concerned

    def state_of(self, user_id: int, change: Change) -> UserState:
        """Return the rights of a user from this change on."""
        user, own = self.users[user_id], self.own.get(user_id, {})
        return UserState(
            since=change.committed,
            transaction=change.transaction,
            is_denied=bool(user["blocked"] or user["deleted"]),
            is_admin=bool(user["is_admin"]),
            mentorado_id=own.get("id"),
            is_active=bool(own.get("active")),
        )


def _applied(rules: Mapping[str, Rule], record: Record) -> Iterator[Violation]:
    return (Violation(name, detail) for name, rule in rules.items() for detail in rule(record))


def timelines_of(changes: Sequence[Change]) -> dict[str, Timeline]:
    """Return the states of each user over time, by Clerk id."""
    tables = _Tables()
    timelines: dict[str, list[UserState]] = defaultdict(list)
    for rows in _transactions(changes):
        concerned = set().union(*(tables.apply(row) for row in rows))
        for user_id in sorted(concerned & tables.users.keys()):
            clerk_id = tables.users[user_id]["clerk_id"]
            timelines[clerk_id].append(tables.state_of(user_id, rows[0]))
    return dict(timelines)


def _transactions(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield the rows of each transaction, in the order of the commits."""
    ordered = sorted(changes, key=lambda c: (c.committed, c.transaction, c.seq))
    return (list(rows) for _, rows in groupby(ordered, key=lambda c: (c.committed, c.transaction)))


def _served(record: Record) -> Iterator[tuple[Answer, Timeline]]:
    """Yield the answers that needed an access, with the timeline of their user."""
    timelines = timelines_of(record.changes)
    for answer in record.answers:
        timeline = timelines.get(answer.clerk_id or "")
        if answer.is_good and answer.shown.access and timeline:
            yield answer, timeline


def _is_granted(timeline: Timeline, answer: Answer, begin: float) -> bool:
    """Whether the access was granted at any time from `begin` until the answer."""
    access = str(answer.shown.access)
    return any(state.grants(access) for state in _between(timeline, begin, answer.ended))


def _between(timeline: Timeline, begin: float, end: float) -> Iterator[UserState]:
    """Yield the state at the beginning, if there was one, and the states until the end."""
    later = (state for state in timeline if begin < state.since <= end)
    before = [state for state in timeline if state.since <= begin]
    yield from before[-1:]
    yield from later


def _in_force(timeline: Timeline, moment: float) -> UserState:
    return next((s for s in reversed(timeline) if s.since <= moment), timeline[0])


def _denial(timeline: Timeline, answer: Answer) -> UserState:
    """Return the last state before the request that ended the access."""
    access = str(answer.shown.access)
    before = [state for state in timeline if state.since <= answer.started]
    first = before[0]
    for previous, state in zip([None, *before], before, strict=False):
        if not state.grants(access) and (previous is None or previous.grants(access)):
            first = state
    return first


def _acknowledged(record: Record) -> dict[int, float]:
    """Return when each change was confirmed to its requester, by transaction."""
    answered = {a.request_id: a.ended for a in record.answers if a.is_good}
    done = [command for command in record.commands if command.exit_code == 0]
    found: dict[int, float] = {}
    for change in record.changes:
        moment = answered.get(str(change.new.get("request_id")))
        if change.new.get("entry") == "cli":
            moment = next((c.ended for c in done if c.started <= change.committed <= c.ended), None)
        if moment is not None:
            found[change.transaction] = moment
    return found


def _is_redis_well(record: Record, begin: float, end: float) -> bool:
    """Whether Redis had no trouble in that time and just before it."""
    return not any(
        trouble.overlaps(begin - SETTLING_SECONDS, end) for trouble in record.redis_trouble
    )


def _is_excused(answer: Answer, killed: Sequence[Interval]) -> bool:
    return any(
        kill.what == answer.host and kill.overlaps(answer.started, answer.ended) for kill in killed
    )


def _users(changes: Sequence[Change]) -> Iterator[Mapping[str, Any]]:
    return (c.new for c in changes if c.table == "users" and c.new)


def _action(change: Change) -> str | None:
    """Return the admin's action of an audit event, or None."""
    return change.new.get("action") if change.table == "audit_events" else None


def _chosen_by_an_admin(changes: Iterable[Change]) -> set[int]:
    """Return the ids of profiles whose owner an admin has chosen in this transaction."""
    return {c.new["mentorado_id"] for c in changes if _action(c) in CHOSEN_BY_AN_ADMIN}


def _is_gain(change: Change) -> bool:
    """Whether a new or existing profile got another owner."""
    owner_id = change.new.get("user_id") if change.table == "mentorados" else None
    return owner_id is not None and owner_id != change.old.get("user_id")


def _is_link(change: Change) -> bool:
    """Whether an existing profile got another owner."""
    return bool(change.old) and _is_gain(change)


def _is_address_verified(change: Change) -> bool:
    owner, address = change.owner, change.new["address"]
    is_free = change.old["user_id"] is None
    return is_free and owner["verified"] and address is not None and owner["address"] == address


def _growth(samples: Sequence[Memory]) -> float | None:
    """Return the growth of memory since the warm-up; None for a short-lived process."""
    start, end = samples[0].at, samples[-1].at
    life = end - start
    if life < LEAST_LIFE_SECONDS:
        return None
    warm = start + life * MEMORY_WARM_UP
    window = life * MEMORY_WINDOW
    before = [sample.megabytes for sample in samples if warm <= sample.at <= warm + window]
    after = [sample.megabytes for sample in samples if sample.at >= end - window]
    return median(after) / median(before) - 1


def _describe(answer: Answer) -> str:
    code = f" {answer.code}" if answer.code else ""
    return (
        f"{answer.operation}: {answer.method} {answer.path} at {answer.host} "
        f"by {answer.clerk_id} at {answer.started:.3f}: {answer.status}{code} "
        f"after {answer.seconds:.3f} s, request {answer.request_id}"
    )


def _describe_link(change: Change) -> str:
    return f"mentorado {change.new['id']} linked to user {change.new['user_id']}, {_commit(change)}"


def _commit(change: Change) -> str:
    return f"transaction {change.transaction} at {change.committed:.3f}"
