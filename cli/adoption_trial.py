"""Use the program on an installation that was just taken over, and take all of it back.

The comparison in `migrations/inspection.py` sees columns, keys and checks. What triggers and
rewrite rules of another program do shows only when rows are written.
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
from dashboard import mentoring
from dashboard.months import FIGURES, Changes, OwnProfile, read_report, reported_months, save_month
from dashboard.periods import Period
from migrations.comparison import Problem
from migrations.inspection import AdoptionRefusedError
from provisioning.admin_actions import block, edit, link, remove, unlink
from provisioning.audit import Source
from provisioning.ensure import EnsureResult, Outcome, ensure
from provisioning.merge import merge
from provisioning.merge_rows import MergeSpec, Prefer
from provisioning.preregistration import pre_register
from provisioning.queries import list_mentees, list_users, record_user
from provisioning.rules import Rules
from sweep.batches import create_range

log = structlog.get_logger(__name__)

ENTRY = Source("cli", "adoption-trial")
WHOLE = Identity(
    "user_adoption_trial",
    "N" * 255,
    "p" * 64 + "@" + ".".join(["example" * 8] * 4) + ".example.com",
    email_verified=True,
    image_url="https://example.com/" + "f" * 480,
    login_method="m" * 64,
    is_complete=True,
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
)
BARE = Identity("user_adoption_trial_bare")
SWEPT = Identity("user_adoption_trial_swept", "Trial")
MONTH = Period(2026, 1)
TEXTS = dict.fromkeys(("analise_mes", "foco_proximo_mes", "sugestao_mentor"), "x" * 5_000)
FIRST = 50  # rows of each list that are read

# Numbers that are drawn here must be drawn again. Restarting a sequence is taken back with the
# transaction, and with it all that follows; drawing from it alone is not.
SEQUENCES = text("""
    SELECT format('%I.%I', n.nspname, c.relname) AS name, s.seqincrement AS step,
           s.seqmin AS smallest, s.seqmax AS largest
      FROM pg_sequence s
      JOIN pg_class c ON c.oid = s.seqrelid AND c.relpersistence <> 't'
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'USAGE')
""")
BRIEFLY = text("SELECT set_config('lock_timeout', '200ms', true)")
TRIGGERS = text("""
    SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger
     WHERE NOT tgisinternal AND tgenabled <> 'D'
       AND tgrelid IN (to_regclass('users'), to_regclass('mentorados'),
                       to_regclass('metricas_mensais'), to_regclass('feedbacks'))
     UNION ALL
    SELECT ev_class::regclass::text || '.' || rulename FROM pg_rewrite
     WHERE ev_class IN (to_regclass('users'), to_regclass('mentorados'),
                        to_regclass('metricas_mensais'), to_regclass('feedbacks'))
     ORDER BY 1
""")


class UnexpectedError(Exception):
    """A step has written or read something else than it should."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the steps share: two people with profiles, and the moment of it all."""

    session: Session
    now: datetime

    def log_in(self) -> None:
        """The first login of two people, and one that returns."""
        for identity in (WHOLE, BARE):
            first, second = (self._ensure(identity) for _ in range(2))
            profile = second.mentorado
            if first.outcome is not Outcome.CREATED or profile is None or not profile.is_active:
                raise UnexpectedError("a new person has no usable profile")

    def report_months(self) -> None:
        """Months of nothing, of the largest numbers and of a loss."""
        for ano, number in ((2025, 0), (2026, 2_147_483_647), (2000, 1)):
            changes: Changes = {**dict.fromkeys(FIGURES, number), "observacoes": "x" * 5_000}
            for own in self._profiles():
                save_month(self.session, own, Period(ano, 1), changes, now=self.now)
        for own in self._profiles():
            save_month(self.session, own, MONTH, {"lucro": -1}, now=self.now)
            if len(reported_months(self.session, own, limit=9)) != 3:
                raise UnexpectedError("reported months are not kept")

    def write_feedback(self) -> None:
        """A mentor's feedback, twice."""
        mentorado_id, *_ = (own.id for own in self._profiles())
        month, seen = (MONTH.ano, MONTH.mes), dict.fromkeys(TEXTS, "")
        for words in (TEXTS, dict.fromkeys(TEXTS, "y")):
            mentoring.write_feedback(
                self.session,
                mentorado_id,
                month,
                words,
                instead_of=seen,
                source=ENTRY,
                now=self.now,
            )
            seen = words
        self.session.expire_all()
        if mentoring.read_feedback(self.session, mentorado_id, month) is None:
            raise UnexpectedError("feedback is not kept")

    def read_lists(self) -> None:
        """What admins and mentees see of the rows that were there before."""
        list_users(self.session, limit=FIRST)
        for profile in list_mentees(self.session, limit=FIRST):
            read_report(self.session, profile.id)
            if profile.user_id is not None:
                own = OwnProfile(profile.id, profile.user_id)
                reported_months(self.session, own, limit=FIRST)

    def administrate(self) -> None:
        """Register, correct, link, unlink, merge and delete profiles; block a person."""
        session, now = self.session, self.now
        goals = {"meta_faturamento": 0, "meta_leads": 2_147_483_647}
        names = ({"nome_completo": "A", "email": "a@trial.example.com"}, {"nome_completo": "B"})
        first, second = (
            pre_register(session, {**name, **goals}, source=ENTRY, now=now).mentorado.id
            for name in names
        )
        edit(session, first, changes={"email": None, "ativo": "nao"}, source=ENTRY, now=now)
        whole, bare = (own.id for own in self._profiles())
        users = [row.user.id for row in list_users(session, wanted=BARE.clerk_id, limit=1)]
        unlink(session, bare, source=ENTRY, now=now)
        link(session, second, users[0], source=ENTRY, now=now)
        merge(session, MergeSpec(bare, second, Prefer.FROM), source=ENTRY, now=now)
        remove(session, first, source=ENTRY, now=now)
        remove(session, whole, source=ENTRY, now=now)
        block(session, users[0], source=ENTRY, now=now)

    def sweep(self) -> None:
        """A profile for a person who has not come yet."""
        record_user(self.session, SWEPT, self.now)
        user_id = list_users(self.session, wanted=SWEPT.clerk_id, limit=1)[0].user.id
        if create_range(self.session, (user_id - 1, user_id)) != 1:
            raise UnexpectedError("the sweep gives no profile")

    def _ensure(self, identity: Identity) -> EnsureResult:
        return ensure(
            self.session,
            identity,
            source=Source("api", "adoption-trial"),
            now=self.now,
            rules=Rules(),
        )

    def _profiles(self) -> list[OwnProfile]:
        found = [self._ensure(identity) for identity in (WHOLE, BARE)]
        return [OwnProfile(e.mentorado.id, e.user.id) for e in found if e.mentorado is not None]


STEPS: tuple[tuple[str, Callable[[Trial], None]], ...] = (
    ("a first login", Trial.log_in),
    ("reporting a month", Trial.report_months),
    ("writing feedback", Trial.write_feedback),
    ("reading what is there", Trial.read_lists),
    ("changing profiles", Trial.administrate),
    ("a sweep", Trial.sweep),
)


def try_out(connection: Connection) -> None:
    """Do what people and admins will do, in a savepoint that is rolled back.

    Raises AdoptionRefusedError with the first thing that fails.
    """
    with connection.begin_nested() as savepoint:
        for sequence in connection.execute(SEQUENCES).all():
            _make_reversible(connection, sequence)
        problem = _first_failure(connection)
        savepoint.rollback()
    if problem is not None:
        what, reason = problem
        found = ", ".join(connection.scalars(TRIGGERS)) or "none of our tables has any"
        remedy = f"look at their triggers and rules: {found}"
        raise AdoptionRefusedError([Problem(what, None, f"fails: {reason}", remedy)])


def _make_reversible(connection: Connection, sequence: Row[*tuple[Any, ...]]) -> None:
    """Restart a sequence where it is, unless another session has just drawn from it."""
    name = sequence.name.replace(":", r"\:")
    state = connection.execute(text(f"SELECT last_value, is_called FROM {name}")).one()  # noqa: S608 - quoted
    upcoming = state.last_value + sequence.step * state.is_called
    if not sequence.smallest <= upcoming <= sequence.largest:
        return
    try:
        with connection.begin_nested():
            connection.execute(BRIEFLY)
            connection.execute(text(f"ALTER SEQUENCE {name} RESTART WITH {upcoming}"))
    except OperationalError:
        log.info("sequence_in_use", sequence=sequence.name)  # it may lose a number here


def _first_failure(connection: Connection) -> tuple[str, str] | None:
    """The first step that fails, and why."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        trial = Trial(session, datetime.now(UTC))
        for what, step in STEPS:
            try:
                step(trial)
                session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            except Exception as err:  # whatever it is, the program does not work here
                return what, str(getattr(err, "orig", err)).splitlines()[0]
    return None
