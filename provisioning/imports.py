"""Import a list of mentees in batches, each line by the rules of a single pre-registration.

A preview and an import run the same queries on the same lines, so that their results agree; a
preview takes no locks and writes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.email_address import normalize_address
from models import AdminJob
from provisioning import jobs
from provisioning.audit import Source
from provisioning.jobs import BatchResult, JobMustWaitError
from provisioning.preregistration import Values, Verdict, find_outcomes, register_all
from provisioning.retry import is_connection_lost

# Limits of a list, checked before it is parsed, so that parsing stays cheap.
MAX_LIST_LINES = 20_000
MAX_LIST_COLUMNS = 50
TOO_MANY_LINES = "A lista passa de 20.000 linhas. Divida o arquivo."

# Each address of a batch takes an entry in the server's lock table, which has 64 for each
# connection; `IMPORT_LOCK` prevents several imports from filling it together.
BATCH_LINES = 500
PREVIEW_LINES = 2_000  # in a batch without locks
IMPORT_LOCK = 20_252  # first half of the advisory key, as is `ADDRESS_LOCKS`; the second is 0
# The server's statistics may be older than the rows, and the planner underrates the cost of
# normalizing an address (0.5 µs, measured): it would read whole tables for each batch.
PLANNER_SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "cpu_operator_cost": "0.1",
}
PREFER_INDEXES = select(
    *(func.set_config(name, value, text("true")) for name, value in PLANNER_SETTINGS.items())
)
LONGEST_REPORT = 500  # lines that a page shows and a job keeps
SAMPLE_LINES = 20  # of a long list, that its preview shows although nothing is wrong with them


class UnreadableListError(Exception):
    """A file that is no list of mentees; users read the message, in pt-BR."""


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A line with its number, its checked values or else its faults, and the texts of all cells."""

    number: int
    name: str
    email: str
    values: Values | None
    faults: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListColumns:
    """The titles of a list, the field of each (blank: not read), and the titles not read."""

    titles: tuple[str, ...]
    fields: tuple[str, ...]
    ignored: tuple[str, ...]
    repeated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MenteeList:
    """A list that has been read: its lines and its columns."""

    lines: Sequence[ImportLine]
    columns: ListColumns


@dataclass(frozen=True, slots=True)
class LineResult:
    """The result of a line, with its profile or the number of an earlier line of that address."""

    line: ImportLine
    verdict: Verdict
    mentorado_id: int | None = None
    earlier: int | None = None
    clerk_id: str | None = None

    def to_stored(self, *, with_person: bool) -> dict[str, Any]:
        """Return the result as a job stores it; `with_person` adds name, address and goals."""
        kept = {
            "line": self.line.number,
            "verdict": self.verdict.value,
            "mentorado_id": self.mentorado_id,
            "earlier": self.earlier,
            "faults": list(self.line.faults),
        }
        stored: dict[str, Any] = {key: value for key, value in kept.items() if value}
        if with_person:
            values = self.line.values or {}
            goals = {name: value for name, value in values.items() if name.startswith("meta_")}
            stored |= {"name": self.line.name, "email": self.line.email, "goals": goals}
        return stored

    def to_rejected(self) -> dict[str, Any]:
        """Return the result with the texts of the line, to be corrected and sent again."""
        return {**self.to_stored(with_person=False), "cells": list(self.line.cells)}


def preview_list(session: Session, lines: Sequence[ImportLine]) -> list[LineResult]:
    """Return the results that an import of the list would have now; takes no locks."""
    return _results(session, lines, find_repeated(lines), None)


def find_repeated(lines: Sequence[ImportLine]) -> dict[int, int]:
    """Map the numbers of lines to that of an earlier valid line with the same address."""
    first: dict[str, int] = {}
    repeated: dict[int, int] = {}
    for line in lines:
        key = normalize_address((line.values or {}).get("email") or "")
        if key is not None and first.setdefault(key, line.number) != line.number:
            repeated[line.number] = first[key]
    return repeated


@dataclass(slots=True)
class MenteeImport:
    """The work of a job that imports a list or previews the import."""

    mentees: MenteeList
    now: datetime
    batch_size: int = BATCH_LINES
    repeated: Mapping[int, int] | None = None
    action: str = "pre_register"

    def run_batch(self, session: Session, job: AdminJob, size: int) -> BatchResult:
        """Import or preview the next lines of the list and store their results in the job."""
        if self.repeated is None:
            self.repeated = find_repeated(self.mentees.lines)
        batch = self.mentees.lines[job.position : job.position + size]
        writing = None if job.dry_run else (jobs.source_of(job), self.now)
        return self._store_results(job, _results(session, batch, self.repeated, writing))

    def skip(self, job: AdminJob) -> BatchResult:
        """Store that the database refused the next line, and continue after it."""
        refused = LineResult(self.mentees.lines[job.position], Verdict.REFUSED)
        return self._store_results(job, [refused])

    def close(self, session: Session, job: AdminJob) -> None:
        """Do nothing: the audit log has an event for each line already."""

    def _store_results(self, job: AdminJob, results: Sequence[LineResult]) -> BatchResult:
        total = len(self.mentees.lines)
        counts = Counter(job.counts) + Counter(result.verdict.value for result in results)
        job.options = {**(job.options or {}), "columns": asdict(self.mentees.columns)}
        # Of a long list only lines that were not registered are kept, and a few for a preview.
        is_short = total <= LONGEST_REPORT
        is_sample = job.dry_run and job.position == 0
        kept = [
            result.to_stored(with_person=job.dry_run)
            for index, result in enumerate(results)
            if is_short or not result.verdict.is_good or (is_sample and index < SAMPLE_LINES)
        ]
        job.counts, job.results = dict(counts), [*job.results, *kept][:LONGEST_REPORT]
        rejected = [result.to_rejected() for result in results if not result.verdict.is_good]
        job.rejected = [*(job.rejected or ()), *rejected]
        job.position += len(results)
        job.scanned, job.total = job.position, total
        affected = [] if job.dry_run else [r.clerk_id for r in results if r.clerk_id]
        return BatchResult(affected, is_last=job.position >= total)


def mentee_import(job: AdminJob, mentees: MenteeList, now: datetime) -> MenteeImport:
    """Return the work of an import job."""
    return MenteeImport(mentees, now, PREVIEW_LINES if job.dry_run else BATCH_LINES)


def _results(
    session: Session,
    lines: Sequence[ImportLine],
    repeated: Mapping[int, int],
    writing: tuple[Source, datetime] | None,
) -> list[LineResult]:
    """Return the results of the lines; `writing`, a source and a time, also registers them."""
    values = [line.values for line in lines if line.values and line.number not in repeated]
    session.execute(PREFER_INDEXES)
    if writing is None:
        outcomes = iter(find_outcomes(session, [each.get("email") for each in values]))
    else:
        _lock_out_other_imports(session)
        outcomes = iter(register_all(session, values, source=writing[0], now=writing[1]))
    results = []
    for line in lines:
        if not line.values:
            results.append(LineResult(line, Verdict.FAULTY))
        elif line.number in repeated:
            results.append(LineResult(line, Verdict.REPEATED, earlier=repeated[line.number]))
        else:
            found = next(outcomes)
            profile_id = found.mentorado_id or None
            results.append(LineResult(line, found.verdict, profile_id, clerk_id=found.clerk_id))
    return results


def _lock_out_other_imports(session: Session) -> None:
    """Wait for the batches of other imports; raises JobMustWaitError where they take too long."""
    try:
        session.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK, 0)))
    except OperationalError as err:
        if is_connection_lost(err):
            raise
        raise JobMustWaitError("another import is writing") from err
    session.execute(jobs.SHORT_LOCK_WAIT)
