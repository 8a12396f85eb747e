"""What must hold in a chaos run, judged from what was observed: answers, commits, commands, memory.

Every rule takes the whole `Record` and yields a `Violation` for each observation that breaks it.
Nothing here talks to the program under test.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Any

LONGEST_ANSWER_SECONDS = 2.5
LONGEST_STALE_SECONDS = 5.0
ROUNDING_SECONDS = 0.1  # of clocks and of times to live
RECOVERY_SECONDS = 2.0  # after the database is back, until everything is served again
UNAVAILABLE = frozenset({"database_unavailable", "provisioning_unavailable"})
SETTLING_SECONDS = 3.0  # after Redis is back, until every process has noticed
MEMORY_WARM_UP = 0.4  # of a process's life: pools fill, code is loaded, caches find their size
MEMORY_WINDOW = 0.2  # of its life, whose median counts: single figures jump
MOST_MEMORY_GROWTH = 0.1
LEAST_LIFE_SECONDS = 300.0  # of a process whose memory is judged
PROFILE, ADMINISTRATION = "profile", "administration"
# After these an admin has chosen the owner, whatever the addresses are.
CHOSEN_BY_AN_ADMIN = frozenset({"link", "merge"})
NEEDS_ITS_OWNER = frozenset({"edit", "delete"})


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer of status 200 or 201 has shown: whose data, and of which kind.

    `access` is what the asker needs for it: a usable profile, or the administration.
    """

    access: str | None = None
    clerk_id: str | None = None
    owner_id: int | None = None
    mentorado_id: int | None = None
    is_created: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came back; `status` is 0 where the connection broke. Times are epoch
    seconds of the machine's clock.
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
        """How long the answer took."""
        return self.ended - self.started

    @property
    def is_good(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 400


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a committed transaction has written, as a trigger noted it.

    `old` is empty for a new row and `new` for a deleted one. `owner` are facts about the user whom
    the row belongs to, read inside the same transaction; empty where there is none.
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
    """One run of a flask command; `exit_code` is negative where it was killed."""

    name: str
    started: float
    ended: float
    exit_code: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A time in which something was broken on purpose."""

    what: str
    started: float
    ended: float

    def overlaps(self, started: float, ended: float) -> bool:
        """Whether any of that time is in this one."""
        return self.started <= ended and started <= self.ended


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory of one process at one time."""

    process: str
    at: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Record:
    """All observations of one run; `leftovers` are rows that the database must not hold at its end,
    by what is wrong with them.
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
    """One observation that breaks a rule, with what is needed to look for its cause."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user may see from one commit on, until the next one that concerns them."""

    since: float
    transaction: int
    is_denied: bool = False
    is_admin: bool = False
    mentorado_id: int | None = None
    is_active: bool = False

    def grants(self, access: str) -> bool:
        """Whether the user may be served what needs that access."""
        if self.is_denied:
            return False
        if access == ADMINISTRATION:
            return self.is_admin
        # A user without profile gets one with the request itself.
        return self.mentorado_id is None or self.is_active


Timeline = Sequence[Standing]


def judge(record: Record, *, is_timed: bool = True) -> list[Violation]:
    """Apply every rule; those that a busy machine breaks by itself only if `is_timed`."""
    found = [*_applied(RULES, record), *(_applied(TIMED_RULES, record) if is_timed else ())]
    leftovers = record.leftovers.items()
    return found + [Violation(name, detail) for name, details in leftovers for detail in details]


def noted(record: Record) -> list[Violation]:
    """What is worth a look without being a violation."""
    return list(_applied(NOTES, record))


def errors_of_ours(record: Record) -> Iterator[str]:
    """An answer of status 500."""
    return (_told(answer) for answer in record.answers if answer.status == 500)


def refusals_without_code(record: Record) -> Iterator[str]:
    """A refusal that does not say why in a code."""
    refused = (answer for answer in record.answers if answer.status >= 400)
    return (_told(answer) for answer in refused if answer.code is None)


def lost_answers(record: Record) -> Iterator[str]:
    """A connection that broke although no process of that host was killed meanwhile."""
    for answer in record.answers:
        if answer.status == 0 and not _is_excused(answer, record.killed_workers):
            yield _told(answer)


def slow_answers(record: Record) -> Iterator[str]:
    """An answer that took longer than 2.5 seconds."""
    return (_told(a) for a in record.answers if a.seconds > LONGEST_ANSWER_SECONDS)


def refusals_without_outage(record: Record) -> Iterator[str]:
    """An answer that calls the database unavailable when it had been there for 2 seconds."""
    for answer in record.answers:
        begin = answer.started - RECOVERY_SECONDS
        is_away = any(t.overlaps(begin, answer.ended) for t in record.database_trouble)
        if answer.code in UNAVAILABLE and not is_away:
            yield _told(answer)


def answers_for_another_user(record: Record) -> Iterator[str]:
    """An answer that shows another user than the one who asks."""
    clerk_ids = {user["id"]: user["clerk_id"] for user in _users(record.changes)}
    for answer in record.answers:
        owner = clerk_ids.get(answer.shown.owner_id) if answer.shown.owner_id else None
        for clerk_id in {answer.shown.clerk_id, owner} - {None, answer.clerk_id}:
            yield f"{_told(answer)} showed {clerk_id}"


def creations_told_twice(record: Record) -> Iterator[str]:
    """A profile of which more than one answer says that it was just created."""
    told: dict[int | None, list[Answer]] = defaultdict(list)
    for answer in record.answers:
        if answer.shown.is_created:
            told[answer.shown.mentorado_id].append(answer)
    for mentorado_id, answers in told.items():
        if len(answers) > 1:
            yield f"mentorado {mentorado_id}: " + "; ".join(map(_told, answers))


def links_without_proof(record: Record) -> Iterator[str]:
    """A profile that had no owner and was linked to a user whose verified address is not that of
    the profile just then, or one that was taken from its owner.
    """
    for changes in _transactions(record.changes):
        chosen = _chosen_by_an_admin(changes)
        for change in filter(_is_link, changes):
            if change.new["id"] not in chosen and not _is_proven(change):
                yield f"{_described(change)} of address {change.new['address']}: {change.owner}"


def profiles_for_denied_users(record: Record) -> Iterator[str]:
    """A profile that was given to a blocked user automatically, or to a deleted one at all."""
    for changes in _transactions(record.changes):
        chosen = _chosen_by_an_admin(changes)
        for change in filter(_is_gain, changes):
            is_blocked = change.owner.get("blocked") and change.new["id"] not in chosen
            if is_blocked or change.owner.get("deleted"):
                yield f"{_described(change)}: {change.owner}"


def addresses_registered_twice(record: Record) -> Iterator[str]:
    """An address that was written into a second profile while both had never had an owner."""
    waiting: dict[str | None, set[int]] = defaultdict(set)  # profiles that never had an owner
    for change in (c for rows in _transactions(record.changes) for c in rows):
        if change.table != "mentorados":
            continue
        profile_id = (change.new or change.old)["id"]
        old_address, address = change.old.get("address"), change.new.get("address")
        was_waiting = not change.old or profile_id in waiting[old_address]
        waiting[old_address].discard(profile_id)
        if was_waiting and address is not None and change.new["user_id"] is None:
            if waiting[address]:
                others = sorted(waiting[address])
                yield f"{address}: mentorados {others} and {profile_id}, {_at(change)}"
            waiting[address].add(profile_id)


def changes_behind_the_owner(record: Record) -> Iterator[str]:
    """An admin's edit or deletion of an owned profile that does not know of its owner."""
    for change in record.changes:
        owner_id = change.owner.get("user_id")
        if _action(change) in NEEDS_ITS_OWNER and change.new["user_id"] != owner_id:
            yield (
                f"{_action(change)} of mentorado {change.new['mentorado_id']} of user {owner_id} "
                f"was recorded for user {change.new['user_id']}, {_at(change)}"
            )


def months_of_another_user(record: Record) -> Iterator[str]:
    """A month that was written into the profile of another user; each notes who wrote it."""
    for change in record.changes:
        if change.table != "metricas_mensais" or not change.new or not change.owner:
            continue
        writer, owner = change.new["note"], change.owner["clerk_id"]
        if writer not in (None, change.old.get("note"), owner):
            yield f"{writer} wrote into the profile of {owner}, {_at(change)}"


def served_too_long(record: Record) -> Iterator[str]:
    """A user who was served although the denial was committed more than 5 seconds before."""
    for answer, timeline in _served(record):
        begin = answer.started - LONGEST_STALE_SECONDS - ROUNDING_SECONDS
        if not _is_granted(timeline, answer, begin):
            yield f"{_told(answer)}: {_in_force(timeline, answer.started)}"


def served_with_redis_well(record: Record) -> Iterator[str]:
    """A user who was served by a request that began after the denial had been acknowledged, with
    Redis well all the time.
    """
    acknowledged = _acknowledged(record)
    for answer, timeline in _served(record):
        if _is_granted(timeline, answer, answer.started):
            continue
        denial = _denial(timeline, answer)
        ahead = answer.started - acknowledged.get(denial.transaction, answer.started)
        if ahead > 0 and _is_redis_well(record, denial.since, answer.ended):
            yield f"{_told(answer)}: {denial}, acknowledged {ahead:.3f} s before"


def profiles_shown_too_long(record: Record) -> Iterator[str]:
    """An answer with a profile that has not been the user's for more than 5 seconds."""
    for answer, timeline in _served(record):
        shown = answer.shown.mentorado_id
        begin = answer.started - LONGEST_STALE_SECONDS - ROUNDING_SECONDS
        if answer.shown.access != PROFILE or shown is None:
            continue
        if shown not in {s.mentorado_id for s in _between(timeline, begin, answer.ended)}:
            yield f"{_told(answer)} showed mentorado {shown}: {_in_force(timeline, answer.started)}"


def commands_that_broke(record: Record) -> Iterator[str]:
    """A command that ended with a traceback instead of a line that says what is wrong."""
    for command in record.commands:
        if "Traceback" in command.output:
            yield f"{command.name} at {command.started:.3f}: {command.output.splitlines()[-1]}"


def growing_memory(record: Record) -> Iterator[str]:
    """A process whose memory grew after its warm-up."""
    by_process: dict[str, list[Memory]] = defaultdict(list)
    for look in record.memory:
        by_process[look.process].append(look)
    for process, looks in by_process.items():
        growth = _growth(looks)
        if growth is not None and growth > MOST_MEMORY_GROWTH:
            yield f"{process} grew by {growth:.1%}"


Rule = Callable[[Record], Iterable[str]]
RULES: dict[str, Rule] = {
    "answered with an error of ours": errors_of_ours,
    "refused without a code": refusals_without_code,
    "connection broken without a killed process": lost_answers,
    "shown another user's data": answers_for_another_user,
    "told twice that a profile was created": creations_told_twice,
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
# What may happen, where somebody waits too long for a lock, but should not happen often.
NOTES: dict[str, Rule] = {
    "refused as unavailable with the database well": refusals_without_outage,
}


@dataclass(slots=True)
class _Tables:
    """The users and profiles of one moment, brought forward change by change."""

    users: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    own: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # profiles by their user's id

    def apply(self, change: Change) -> set[int]:
        """Take one change in; returns the ids of the users whom it concerns."""
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

    def standing(self, user_id: int, change: Change) -> Standing:
        """What a user may see from this change on."""
        user, own = self.users[user_id], self.own.get(user_id, {})
        return Standing(
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
    """What each user may see over time, by Clerk id."""
    tables = _Tables()
    timelines: dict[str, list[Standing]] = defaultdict(list)
    for rows in _transactions(changes):
        concerned = set().union(*(tables.apply(row) for row in rows))
        for user_id in sorted(concerned & tables.users.keys()):
            clerk_id = tables.users[user_id]["clerk_id"]
            timelines[clerk_id].append(tables.standing(user_id, rows[0]))
    return dict(timelines)


def _transactions(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """The rows of each transaction, in the order of their commits."""
    ordered = sorted(changes, key=lambda c: (c.committed, c.transaction, c.seq))
    return (list(rows) for _, rows in groupby(ordered, key=lambda c: (c.committed, c.transaction)))


def _served(record: Record) -> Iterator[tuple[Answer, Timeline]]:
    """The answers that needed an access, with what their user may see over time."""
    timelines = timelines_of(record.changes)
    for answer in record.answers:
        timeline = timelines.get(answer.clerk_id or "")
        if answer.is_good and answer.shown.access and timeline:
            yield answer, timeline


def _is_granted(timeline: Timeline, answer: Answer, begin: float) -> bool:
    """Whether the access was granted at any time from then until the answer came."""
    access = str(answer.shown.access)
    return any(standing.grants(access) for standing in _between(timeline, begin, answer.ended))


def _between(timeline: Timeline, begin: float, end: float) -> Iterator[Standing]:
    """What was in force at the beginning, and what came until the end; all that is known of a user
    who was not known at the beginning.
    """
    later = (standing for standing in timeline if begin < standing.since <= end)
    before = [standing for standing in timeline if standing.since <= begin]
    yield from before[-1:]
    yield from later


def _in_force(timeline: Timeline, moment: float) -> Standing:
    return next((s for s in reversed(timeline) if s.since <= moment), timeline[0])


def _denial(timeline: Timeline, answer: Answer) -> Standing:
    """The change that has ended the access, last before the request began."""
    access = str(answer.shown.access)
    before = [standing for standing in timeline if standing.since <= answer.started]
    first = before[0]
    for previous, standing in zip([None, *before], before, strict=False):
        if not standing.grants(access) and (previous is None or previous.grants(access)):
            first = standing
    return first


def _acknowledged(record: Record) -> dict[int, float]:
    """When each change was told to be done to the one who had asked for it, by transaction."""
    told = {a.request_id: a.ended for a in record.answers if a.is_good}
    done = [command for command in record.commands if command.exit_code == 0]
    found: dict[int, float] = {}
    for change in record.changes:
        moment = told.get(str(change.new.get("request_id")))
        if change.new.get("entry") == "cli":
            moment = next((c.ended for c in done if c.started <= change.committed <= c.ended), None)
        if moment is not None:
            found[change.transaction] = moment
    return found


def _is_redis_well(record: Record, begin: float, end: float) -> bool:
    """Whether nothing was wrong with Redis in that time, nor just before it."""
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
    """What an admin did, of an audit event that tells so."""
    return change.new.get("action") if change.table == "audit_events" else None


def _chosen_by_an_admin(changes: Iterable[Change]) -> set[int]:
    """The profiles whose owner an admin has chosen in this transaction."""
    return {c.new["mentorado_id"] for c in changes if _action(c) in CHOSEN_BY_AN_ADMIN}


def _is_gain(change: Change) -> bool:
    """Whether a profile, be it a new one or an existing one, has got another owner."""
    owner_id = change.new.get("user_id") if change.table == "mentorados" else None
    return owner_id is not None and owner_id != change.old.get("user_id")


def _is_link(change: Change) -> bool:
    """Whether an existing profile has got another owner."""
    return bool(change.old) and _is_gain(change)


def _is_proven(change: Change) -> bool:
    owner, address = change.owner, change.new["address"]
    is_free = change.old["user_id"] is None
    return is_free and owner["verified"] and address is not None and owner["address"] == address


def _growth(looks: Sequence[Memory]) -> float | None:
    """How much more memory there is at the end than after the warm-up; None for a short life."""
    start, end = looks[0].at, looks[-1].at
    life = end - start
    if life < LEAST_LIFE_SECONDS:
        return None
    warm = start + life * MEMORY_WARM_UP
    before = [look.megabytes for look in looks if warm <= look.at <= warm + life * MEMORY_WINDOW]
    after = [look.megabytes for look in looks if look.at >= end - life * MEMORY_WINDOW]
    return median(after) / median(before) - 1


def _told(answer: Answer) -> str:
    said = f" {answer.code}" if answer.code else ""
    return (
        f"{answer.operation}: {answer.method} {answer.path} at {answer.host} "
        f"by {answer.clerk_id} at {answer.started:.3f}: {answer.status}{said} "
        f"after {answer.seconds:.3f} s, request {answer.request_id}"
    )


def _described(change: Change) -> str:
    return f"mentorado {change.new['id']} went to user {change.new['user_id']}, {_at(change)}"


def _at(change: Change) -> str:
    return f"transaction {change.transaction} at {change.committed:.3f}"
