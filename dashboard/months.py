"""Read and write a mentee's reported months, with their goals and the mentor's feedback."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Integer, bindparam, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from dashboard.periods import Period
from models import Mentorado, MetricaMensal
from models.people import FIGURES, missing_figures

WINDOW_MONTHS = 12
NEWEST_FEEDBACKS = 3  # with their texts: of the month, of the one before, and a newer one
LAST_PERIOD = Period(9999, 12)


@dataclass(frozen=True, slots=True)
class Goals:
    """The goals of a month."""

    faturamento: int
    leads: int
    procedimentos: int
    posts: int
    stories: int


@dataclass(frozen=True, slots=True)
class Month:
    """One reported month, with the goals that hold in it.

    `missing` holds the names of the figures that the mentee has not given yet; they count as zero.
    `has_own_goals` tells whether the team has set goals for this month only.
    """

    ano: int
    mes: int
    faturamento: int
    lucro: int
    leads: int
    procedimentos: int
    posts: int
    stories: int
    goals: Goals
    observacoes: str | None = None
    missing: tuple[str, ...] = ()
    reported_at: datetime | None = None
    has_own_goals: bool = False

    @property
    def period(self) -> Period:
        """The calendar month."""
        return Period(self.ano, self.mes)

    def has(self, measure: str) -> bool:
        """Whether the mentee has given the figure of a measure, such as `posts`."""
        return ("posts_feed" if measure == "posts" else measure) not in self.missing


@dataclass(frozen=True, slots=True)
class MonthFeedback:
    """The mentor's feedback on one month."""

    ano: int
    mes: int
    analise_mes: str
    foco_proximo_mes: str
    sugestao_mentor: str


@dataclass(frozen=True, slots=True)
class ReceivedFeedback:
    """A feedback as its mentee sees it; `is_new` until it is marked as read."""

    texts: MonthFeedback
    written_at: datetime
    author: str | None
    is_new: bool
    is_focus_done: bool

    @property
    def period(self) -> Period:
        """The month that the feedback is about."""
        return Period(self.texts.ano, self.texts.mes)


@dataclass(frozen=True, slots=True)
class FeedbackMonth:
    """A month with feedback, and whether the mentee has read it."""

    period: Period
    is_new: bool


@dataclass(frozen=True, slots=True)
class GoalChange:
    """The goals before the team has changed them, until the mentee confirms the change."""

    before: Goals
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class AddressState:
    """The mentee's e-mail address; `unlinked_matches` have it as well, at most two are counted."""

    has_email: bool = True
    is_verified: bool = True
    unlinked_matches: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The data of the dashboard; `months` are in ascending order, at most twelve.

    `received` are the newest feedbacks, the last one at the end; `feedback_months` is every month
    with feedback, newest first. `is_read_only` is true while the database refuses writes.
    """

    months: tuple[Month, ...]
    goals: Goals
    is_read_only: bool = False
    received: tuple[ReceivedFeedback, ...] = ()
    feedback_months: tuple[FeedbackMonth, ...] = ()
    goal_change: GoalChange | None = None
    address: AddressState = field(default_factory=AddressState)

    def until(self, period: Period) -> "Report":
        """Return the report as it is up to that month."""
        return replace(
            self,
            months=tuple(month for month in self.months if month.period <= period),
            received=tuple(each for each in self.received if each.period <= period),
        )


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report and the time when it was read."""

    report: Report
    as_of: datetime


_STORED_REPORT = TypeAdapter(StoredReport)


def report_to_text(stored: StoredReport) -> str:
    """Serialize a report for the cache of dashboard copies."""
    return _STORED_REPORT.dump_json(stored).decode()


def report_from_text(text: str) -> StoredReport:
    """Read a serialized report, marked read-only; raises pydantic's ValidationError."""
    stored = _STORED_REPORT.validate_json(text)
    return replace(stored, report=replace(stored.report, is_read_only=True))


@dataclass(frozen=True, slots=True)
class OwnProfile:
    """A profile and the user who must own it at the time of a read or write.

    The cached request context may be seconds old; an admin may have linked the profile to another
    user since.
    """

    id: int
    user_id: int


def check_owner(session: Session, own: OwnProfile, *, lock: bool = False) -> None:
    """Raise NoResultFound unless the user owns the profile; `lock` keeps that until the commit."""
    profile = select(Mentorado.id).where(Mentorado.id == own.id, Mentorado.user_id == own.user_id)
    # A key share lock: neither a deletion nor another owner comes in between.
    session.scalars(profile.with_for_update(read=True, key_share=True) if lock else profile).one()


# One row: the profile, and as JSON arrays its newest months and feedback up to a month.
REPORT = (
    text("""
    SELECT jsonb_build_array(p.meta_faturamento, p.meta_leads, p.meta_procedimentos, p.meta_posts,
                             p.meta_stories) AS goals,
           p.previous_goals, p.goals_changed_at,
           current_setting('transaction_read_only') AS read_only,
           u.email IS NOT NULL AS has_email, coalesce(u.email_verified, false) AS is_verified,
           CASE WHEN u.email_verified THEN
               (SELECT count(*) FROM (
                   SELECT 1 FROM mentorados AS unlinked
                    WHERE unlinked.user_id IS NULL
                      AND normalized_address(unlinked.email) = normalized_address(u.email)
                    LIMIT 2) AS matches)
           ELSE 0 END AS unlinked_matches,
           (SELECT coalesce(jsonb_agg(jsonb_build_array(
                       m.ano, m.mes, m.faturamento, m.lucro, m.leads, m.procedimentos, m.posts_feed,
                       m.stories, m.observacoes, m.reported_fields, m.created_at,
                       m.meta_faturamento, m.meta_leads, m.meta_procedimentos, m.meta_posts,
                       m.meta_stories) ORDER BY m.ano, m.mes), '[]')
              FROM (SELECT * FROM metricas_mensais
                     WHERE mentorado_id = p.id AND (ano, mes) <= (:ano, :mes)
                     ORDER BY ano DESC, mes DESC LIMIT :months) AS m) AS months,
           (SELECT coalesce(jsonb_agg(jsonb_build_array(
                       f.ano, f.mes, f.analise_mes, f.foco_proximo_mes, f.sugestao_mentor,
                       f.updated_at, author.name, f.read_at IS NULL OR f.read_at < f.updated_at,
                       f.focus_done_at IS NOT NULL) ORDER BY f.ano, f.mes), '[]')
              FROM (SELECT * FROM feedbacks
                     WHERE mentorado_id = p.id AND (ano, mes) <= (:ano, :mes)
                     ORDER BY ano DESC, mes DESC LIMIT :feedbacks) AS f
              LEFT JOIN users AS author ON author.id = f.author_id) AS received,
           (SELECT coalesce(jsonb_agg(jsonb_build_array(
                       ano, mes, read_at IS NULL OR read_at < updated_at)
                       ORDER BY ano DESC, mes DESC), '[]')
              FROM feedbacks WHERE mentorado_id = p.id) AS feedback_months
      FROM mentorados AS p LEFT JOIN users AS u ON u.id = p.user_id
     WHERE p.id = :mentorado AND (:owner IS NULL OR p.user_id = :owner)
""")
    .bindparams(bindparam("owner", type_=Integer))
    .columns(goals=JSONB, previous_goals=JSONB, months=JSONB, received=JSONB, feedback_months=JSONB)
)
NUMBERS = ("ano", "mes", "faturamento", "lucro", "leads", "procedimentos", "posts", "stories")
GOAL_NAMES = [each.name for each in fields(Goals)]


def read_report(
    session: Session, mentorado_id: int, *, owner_id: int | None = None, until: Period | None = None
) -> Report:
    """Read a mentee's last twelve reported months, goals and feedback, in one statement.

    With `until`, months and feedback after that month are left out. With `owner_id`, that user must
    own the profile. Raises NoResultFound for a profile that does not exist or has another owner.
    """
    last = until or LAST_PERIOD
    values = {"mentorado": mentorado_id, "owner": owner_id, "ano": last.ano, "mes": last.mes}
    limits = {"months": WINDOW_MONTHS, "feedbacks": NEWEST_FEEDBACKS}
    row = session.execute(REPORT, values | limits).one()
    profile_goals = Goals(*(value or 0 for value in row.goals))
    change = None
    if row.previous_goals is not None:
        before = Goals(*(row.previous_goals.get(f"meta_{name}") or 0 for name in GOAL_NAMES))
        if before != profile_goals:
            change = GoalChange(before, row.goals_changed_at)
    return Report(
        months=tuple(_month(values, profile_goals) for values in row.months),
        goals=profile_goals,
        is_read_only=row.read_only == "on",
        received=tuple(
            ReceivedFeedback(
                MonthFeedback(*texts), datetime.fromisoformat(at), author, is_new, is_focus_done
            )
            for *texts, at, author, is_new, is_focus_done in row.received
        ),
        feedback_months=tuple(
            FeedbackMonth(Period(ano, mes), is_new) for ano, mes, is_new in row.feedback_months
        ),
        goal_change=change,
        address=AddressState(row.has_email, row.is_verified, row.unlinked_matches),
    )


def _month(values: Sequence[Any], profile_goals: Goals) -> Month:
    """Build a month of its values in the order of `REPORT`."""
    numbers, (note, reported, created_at), own_goals = values[:8], values[8:11], values[11:]
    pairs = zip(own_goals, astuple(profile_goals), strict=True)
    goals = Goals(*(of_profile if own is None else own for own, of_profile in pairs))
    named: dict[str, Any] = dict(zip(NUMBERS, numbers, strict=True))
    return Month(
        **named,
        goals=goals,
        observacoes=note,
        missing=missing_figures(reported),
        reported_at=datetime.fromisoformat(created_at),
        has_own_goals=goals != profile_goals,
    )


Changes = Mapping[str, int | str | None]  # a field of the month → its new value


def save_month(
    session: Session, own: OwnProfile, period: Period, changes: Changes, *, now: datetime
) -> MetricaMensal:
    """Write the given fields of a month and leave the others unchanged.

    A new month starts with zeros. One upsert writes it: concurrent saves of different fields are
    all kept, and for the same field the last one wins. Raises NoResultFound for a profile that is
    deleted or has another owner.
    """
    check_owner(session, own, lock=True)
    written = {**changes, "updated_at": now}
    given = {name: True for name in FIGURES if name in changes}
    new = insert(MetricaMensal).values(
        mentorado_id=own.id,
        ano=period.ano,
        mes=period.mes,
        reported_fields=given,
        created_at=now,
        **written,
    )
    # NULL || given is NULL: in a row of an older version all fields stay reported.
    all_given = MetricaMensal.reported_fields.op("||")(new.excluded.reported_fields)
    return session.scalars(
        new.on_conflict_do_update(
            index_elements=["mentorado_id", "ano", "mes"],
            set_={**written, "reported_fields": all_given},
        )
        .returning(MetricaMensal)
        .execution_options(populate_existing=True)
    ).one()


def reported_months(
    session: Session, own: OwnProfile, *periods: Period, limit: int | None = None
) -> list[MetricaMensal]:
    """Return the newest months first; with periods, only those; raises as `save_month` does."""
    check_owner(session, own)
    month = MetricaMensal
    found = select(month).where(month.mentorado_id == own.id)
    if periods:
        wanted = [(period.ano, period.mes) for period in periods]
        found = found.where(tuple_(month.ano, month.mes).in_(wanted))
    newest_first = found.order_by(month.ano.desc(), month.mes.desc()).limit(limit)
    return list(session.scalars(newest_first))
