"""Run the program's writes on an installation that was just taken over, and roll them back.

The comparison in `migrations/inspection.py` covers columns, keys and checks. The effects of another
program's triggers and rewrite rules appear only when rows are written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from auth.identity import Identity
from core.database import rolled_back
from dashboard import mentoring
from dashboard.months import Changes, OwnProfile, read_report, reported_months, save_month
from dashboard.periods import Period
from migrations.comparison import Problem
from migrations.inspection import AdoptionRefusedError
from models.people import FIGURES
from provisioning.admin_actions import block, edit, link, unlink
from provisioning.audit import Source
from provisioning.deleted_profiles import remove
from provisioning.ensure import EnsureResult, Outcome, ensure
from provisioning.identity_lookups import record_user
from provisioning.merge import MergeSpec, Prefer, merge
from provisioning.preregistration import pre_register
from provisioning.rules import Rules
from provisioning.user_lists import SearchTerm, list_mentees, list_users
from sweep.batches import create_range

log = structlog.get_logger(__name__)

SOURCE = Source("cli", "adoption-trial")
COMPLETE = Identity(
    "user_adoption_trial",
    "N" * 255,
    "p" * 64 + "@" + ".".join(["example" * 8] * 4) + ".example.com",
    email_verified=True,
    image_url="https://example.com/" + "f" * 480,
    login_method="m" * 64,
    is_complete=True,
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
)
MINIMAL = Identity("user_adoption_trial_bare")
SWEPT = Identity("user_adoption_trial_swept", "Trial")
MONTH = Period(2026, 1)
TEXTS = dict.fromkeys(("analise_mes", "foco_proximo_mes", "sugestao_mentor"), "x" * 5_000)
LIST_LIMIT = 50  # rows of each list that are read

# The trial must not use up sequence numbers. A rollback undoes the restart of a sequence and all
# numbers drawn after it; without a restart it does not undo them.
SEQUENCES = text("""
    SELECT format('%I.%I', n.nspname, c.relname) AS name, s.seqincrement AS step,
           s.seqmin AS smallest, s.seqmax AS largest
      FROM pg_sequence s
      JOIN pg_class c ON c.oid = s.seqrelid AND c.relpersistence <> 't'
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'USAGE')
""")
SHORT_LOCK_WAIT = text("SELECT set_config('lock_timeout', '200ms', true)")
TRIGGERS = text("""
    WITH ours AS (SELECT to_regclass(name) AS id FROM unnest(CAST(:tables AS text[])) AS name)
    SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger JOIN ours ON id = tgrelid
     WHERE NOT tgisinternal AND tgenabled <> 'D'
     UNION ALL
    SELECT ev_class::regclass::text || '.' || rulename FROM pg_rewrite JOIN ours ON id = ev_class
     ORDER BY 1
""").bindparams(tables=["users", "mentorados", "metricas_mensais", "feedbacks"])


class UnexpectedError(Exception):
    """A step did not have the expected result."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The steps of the trial, which share a session and the current time; two users take part."""

    session: Session
    now: datetime

    def log_in(self) -> None:
        """Ensure the profiles of two users, twice each."""
        for identity in (COMPLETE, MINIMAL):
            first, second = (self._ensure(identity) for _ in range(2))
            profile = second.mentorado
            if first.outcome is not Outcome.CREATED or profile is None or not profile.is_active:
                raise UnexpectedError("a new user has no usable profile")

    def report_months(self) -> None:
        """Save months with zeros, with the largest numbers and with a loss."""
        for ano, number in ((2025, 0), (2026, 2_147_483_647), (2000, 1)):
            changes: Changes = {**dict.fromkeys(FIGURES, number), "observacoes": "x" * 5_000}
            for own in self._profiles():
                save_month(self.session, own, Period(ano, 1), changes, now=self.now)
        for own in self._profiles():
            save_month(self.session, own, MONTH, {"lucro": -1}, now=self.now)
            if len(reported_months(self.session, own, limit=9)) != 3:
                raise UnexpectedError("reported months are not kept")

    def write_feedback(self) -> None:
        """Write a month's feedback, twice."""
        mentorado_id, *_ = (own.id for own in self._profiles())
        seen = dict.fromkeys(TEXTS, "")
        for texts in (TEXTS, dict.fromkeys(TEXTS, "y")):
            mentoring.write_feedback(
                self.session, mentorado_id, MONTH, texts, expected=seen, source=SOURCE, now=self.now
            )
            seen = texts
        self.session.expire_all()
        if mentoring.read_feedback(self.session, mentorado_id, MONTH) is None:
            raise UnexpectedError("feedback is not kept")

    def read_lists(self) -> None:
        """Read the existing rows as admins and mentees do."""
        list_users(self.session, limit=LIST_LIMIT)
        for profile in list_mentees(self.session, limit=LIST_LIMIT):
            read_report(self.session, profile.id)
            if profile.user_id is not None:
                own = OwnProfile(profile.id, profile.user_id)
                reported_months(self.session, own, limit=LIST_LIMIT)

    def administrate(self) -> None:
        """Pre-register, edit, link, unlink, merge and delete profiles; block a user."""
        session, now = self.session, self.now
        goals = {"meta_faturamento": 0, "meta_leads": 2_147_483_647}
        names = ({"nome_completo": "A", "email": "a@trial.example.com"}, {"nome_completo": "B"})
        first, second = (
            pre_register(session, {**name, **goals}, source=SOURCE, now=now).mentorado_id
            for name in names
        )
        edit(session, first, changes={"email": None, "ativo": "nao"}, source=SOURCE, now=now)
        complete, minimal = (own.id for own in self._profiles())
        user_id = self._user_id(MINIMAL)
        unlink(session, minimal, source=SOURCE, now=now)
        link(session, second, user_id, source=SOURCE, now=now)
        merge(session, MergeSpec(minimal, second, Prefer.FROM), source=SOURCE, now=now)
        remove(session, first, source=SOURCE, now=now)
        remove(session, complete, source=SOURCE, now=now)
        block(session, user_id, source=SOURCE, now=now)

    def sweep(self) -> None:
        """Create the profile of a user without a login, as the sweep does."""
        record_user(self.session, SWEPT, self.now)
        user_id = self._user_id(SWEPT)
        if create_range(self.session, (user_id - 1, user_id)) != 1:
            raise UnexpectedError("the sweep gives no profile")

    def _ensure(self, identity: Identity) -> EnsureResult:
        source = Source("api", "adoption-trial")
        return ensure(self.session, identity, source=source, now=self.now, rules=Rules())

    def _user_id(self, identity: Identity) -> int:
        return list_users(self.session, search=SearchTerm(identity.clerk_id), limit=1)[0].user.id

    def _profiles(self) -> list[OwnProfile]:
        found = [self._ensure(identity) for identity in (COMPLETE, MINIMAL)]
        return [OwnProfile(e.mentorado.id, e.user.id) for e in found if e.mentorado is not None]


STEPS: tuple[tuple[str, Callable[[Trial], None]], ...] = (
    ("a first login", Trial.log_in),
    ("reporting a month", Trial.report_months),
    ("writing feedback", Trial.write_feedback),
    ("reading what is there", Trial.read_lists),
    ("changing profiles", Trial.administrate),
    ("a sweep", Trial.sweep),
)


def run_trial(connection: Connection) -> None:
    """Run all steps and roll them back; raises AdoptionRefusedError with the first that fails."""
    with rolled_back(connection):
        for sequence in connection.execute(SEQUENCES).all():
            _make_reversible(connection, sequence)
        problem = _first_failure(connection)
    if problem is not None:
        what, reason = problem
        found = ", ".join(connection.scalars(TRIGGERS)) or "none of our tables has any"
        remedy = f"look at their triggers and rules: {found}"
        raise AdoptionRefusedError([Problem(what, None, f"fails: {reason}", remedy)])


def _make_reversible(connection: Connection, sequence: Row[*tuple[Any, ...]]) -> None:
    """Restart a sequence at its current value, unless another session has locked it."""
    name = sequence.name.replace(":", r"\:")
    state = connection.execute(text(f"SELECT last_value, is_called FROM {name}")).one()  # noqa: S608 - quoted
    upcoming = state.last_value + sequence.step * state.is_called
    if not sequence.smallest <= upcoming <= sequence.largest:
        return
    try:
        with connection.begin_nested():
            connection.execute(SHORT_LOCK_WAIT)
            connection.execute(text(f"ALTER SEQUENCE {name} RESTART WITH {upcoming}"))
    except OperationalError:
        log.info("sequence_in_use", sequence=sequence.name)  # it may lose a number here


def _first_failure(connection: Connection) -> tuple[str, str] | None:
    """Run the steps; return the first that fails and its reason, or None."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        trial = Trial(session, datetime.now(UTC))
        for what, step in STEPS:
            try:
                step(trial)
                session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            except Exception as err:  # any error means that the program does not work here
                return what, str(getattr(err, "orig", err)).splitlines()[0]
    return None
