"""Importing a list of mentees: each line by the rules of a single registration, in batches.

A preview and an import ask the same questions of the same lines, so that they come to the same; a
preview does not go on to lock and to write (`registration.preview_all`, `register_all`).
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import AdminJob
from provisioning import jobs
from provisioning.address_holders import addresses_of
from provisioning.audit import Source
from provisioning.jobs import NotNowError, Step
from provisioning.preregistration import Values, preview_all, register_all
from provisioning.retry import is_connection_lost

# Each address of a batch takes a place in the server's table of locks, which has 64 for each
# connection; `IMPORT_LOCK` keeps several imports from filling it together.
BATCH_LINES = 500
PREVIEW_LINES = 2_000  # of a batch that locks nothing
IMPORT_LOCK = 20_252
# What the server knows of the tables may be of before they were filled, and it takes normalizing an
# address for cheap (0.5 µs, measured): it would read whole tables for each batch.
SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "cpu_operator_cost": "0.1",
}
BY_INDEX = select(*(func.set_config(name, value, text("true")) for name, value in SETTINGS.items()))
LONGEST_REPORT = 500  # lines that a page shows and a job keeps
ACTION = "pre_register"


class LineVerdict(enum.StrEnum):
    """What comes of a line; the first three are those of `registration.Verdict`."""

    NEW = "new"
    TAKES_OVER = "takes_over"
    EXISTS = "exists"
    REPEATED = "repeated"
    FAULTY = "faulty"
    REFUSED = "refused"  # the database would not take it

    @property
    def is_good(self) -> bool:
        """Whether the line is registered."""
        return self in (LineVerdict.NEW, LineVerdict.TAKES_OVER)


class UnreadableListError(Exception):
    """A file that is no list of mentees; the message is for people, in pt-BR."""


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A line by its number in the file, with its checked values, or with what is wrong in it."""

    number: int
    name: str
    email: str
    values: Values | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LineResult:
    """What came of a line, or would: which profile it is about, or which line said the same."""

    line: ImportLine
    verdict: LineVerdict
    mentorado_id: int | None = None
    earlier: int | None = None
    clerk_id: str | None = None

    def as_kept(self, *, with_person: bool) -> dict[str, Any]:
        """The result as a job keeps it; without the person it says nothing about anybody."""
        kept = {
            "line": self.line.number,
            "verdict": self.verdict.value,
            "mentorado_id": self.mentorado_id,
            "earlier": self.earlier,
            "faults": list(self.line.faults),
        }
        person = {"name": self.line.name, "email": self.line.email} if with_person else {}
        return {**{key: value for key, value in kept.items() if value}, **person}


def preview_list(session: Session, lines: Sequence[ImportLine]) -> list[LineResult]:
    """Return what an import of the list would come to just now; reads only, locks nothing."""
    return _results(session, lines, find_repeated(session, lines), None)


def find_repeated(session: Session, lines: Sequence[ImportLine]) -> dict[int, int]:
    """Find lines whose address an earlier sound line has; returns numbers of the file."""
    given = [line for line in lines if line.values and line.values.get("email")]
    written = [str((line.values or {})["email"]) for line in given]
    first: dict[str, int] = {}
    repeated: dict[int, int] = {}
    for line, address in zip(given, addresses_of(session, written), strict=True):
        if address.key in first:
            repeated[line.number] = first[address.key]
        first.setdefault(address.key, line.number)
    return repeated


@dataclass(slots=True)
class MenteeImport:
    """The work of a job that imports a list, or shows what an import would do."""

    lines: Sequence[ImportLine]
    now: datetime
    batch_size: int = BATCH_LINES
    repeated: Mapping[int, int] | None = None
    action: str = ACTION

    def step(self, session: Session, job: AdminJob, size: int) -> Step:
        """Do the next lines of the list and note them in the job."""
        if self.repeated is None:
            self.repeated = find_repeated(session, self.lines)
        batch = self.lines[job.position : job.position + size]
        entry = None if job.dry_run else jobs.source_of(job)
        results = _results(session, batch, self.repeated, (entry, self.now) if entry else None)
        return self._noted(job, results)

    def skip(self, job: AdminJob) -> Step:
        """Note that the database would not take the next line, and go on behind it."""
        line = self.lines[job.position]
        return self._noted(job, [LineResult(line, LineVerdict.REFUSED)])

    def close(self, session: Session, job: AdminJob) -> None:
        """Nothing: each line is on record already."""

    def _noted(self, job: AdminJob, results: Sequence[LineResult]) -> Step:
        counts = dict(job.counts)
        for result in results:
            counts[result.verdict.value] = counts.get(result.verdict.value, 0) + 1
        # Of a long list only what needs a look is kept.
        is_short = len(self.lines) <= LONGEST_REPORT
        kept = [
            r.as_kept(with_person=job.dry_run) for r in results if is_short or not r.verdict.is_good
        ]
        job.counts, job.results = counts, [*job.results, *kept][:LONGEST_REPORT]
        job.position += len(results)
        job.scanned, job.total = job.position, len(self.lines)
        affected = [] if job.dry_run else [r.clerk_id for r in results if r.clerk_id]
        return Step(affected, is_last=job.position >= len(self.lines))


def mentee_import(job: AdminJob, lines: Sequence[ImportLine], now: datetime) -> MenteeImport:
    """Make the work of a job from its list."""
    return MenteeImport(lines, now, PREVIEW_LINES if job.dry_run else BATCH_LINES)


def _results(
    session: Session,
    lines: Sequence[ImportLine],
    repeated: Mapping[int, int],
    writing: tuple[Source, datetime] | None,
) -> list[LineResult]:
    """Judge the lines, and write them where an entry and a time say as what and when."""
    sound = [line for line in lines if line.values is not None and line.number not in repeated]
    values = [line.values or {} for line in sound]
    _prepare(session, is_writing=writing is not None)
    if writing is None:
        outcomes = preview_all(session, values)
    else:
        outcomes = register_all(session, values, source=writing[0], now=writing[1])
    found = {line.number: outcome for line, outcome in zip(sound, outcomes, strict=True)}
    results = []
    for line in lines:
        outcome = found.get(line.number)
        if outcome is not None:
            verdict = LineVerdict(outcome.verdict.value)
            results.append(LineResult(line, verdict, outcome.mentorado_id, None, outcome.clerk_id))
        elif line.values is None:
            results.append(LineResult(line, LineVerdict.FAULTY))
        else:
            results.append(LineResult(line, LineVerdict.REPEATED, earlier=repeated[line.number]))
    return results


def _prepare(session: Session, *, is_writing: bool) -> None:
    """Have addresses looked up in indexes, and let one batch of one import write at a time.

    Raises NotNowError where other imports take too long: no line of this one is to blame.
    """
    session.execute(BY_INDEX)
    if not is_writing:
        return
    try:
        session.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK, 0)))
    except OperationalError as err:
        if is_connection_lost(err):
            raise
        raise NotNowError("another import is writing") from err
    session.execute(jobs.SHORT_LOCK_WAIT)
