"""How the guarantee has fared lately, counted in the database, so that every process agrees."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import extract, func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, ProvisioningAttempt, SweepRun, User
from models.sweep_run import SweepStatus
from provisioning import switch
from provisioning.backlog import IS_HELPED

PROVIDED = ("mentorado_created", "mentorado_linked", "mentorado_claimed")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why profiles could not be made, and how many in the last hour and day still have none."""

    error: str
    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the last day was.

    `success_rate`, from 0 to 1, and `p95_seconds` are None where nobody came.
    """

    provided: int
    failing: int
    p95_seconds: float | None
    reasons: tuple[Reason, ...]
    is_switched_on: bool
    last_sweep: SweepRun | None

    @property
    def success_rate(self) -> float | None:
        """Of those who were given a profile or still fail, how many have got one."""
        everybody = self.provided + self.failing
        return self.provided / everybody if everybody else None


def take_vitals(session: Session, *, now: datetime) -> Vitals:
    """Count what happened in the day before `now`."""
    reasons = _reasons(session, now)
    provided, p95_seconds = _provided(session, now - DAY)
    return Vitals(
        provided=provided,
        failing=sum(reason.last_day for reason in reasons),
        p95_seconds=p95_seconds,
        reasons=reasons,
        is_switched_on=switch.is_on(session),
        last_sweep=_last_sweep(session),
    )


def _provided(session: Session, since: datetime) -> tuple[int, float | None]:
    """How many were given a profile, and the 95th percentile of what it took.

    From when a person was first heard of to their automatic profile; 0 within one request.
    """
    told = select(func.count()).where(AuditEvent.event.in_(PROVIDED), AuditEvent.at >= since)
    waited = extract("epoch", Mentorado.created_at - User.created_at)
    p95 = (
        select(func.percentile_cont(0.95).within_group(waited))
        .select_from(Mentorado)
        .join(User, User.id == Mentorado.user_id)
        .where(Mentorado.created_automatically, Mentorado.created_at >= since)
    )
    number, seconds = session.execute(select(told.scalar_subquery(), p95.scalar_subquery())).one()
    return number, None if seconds is None else float(seconds)


def _reasons(session: Session, now: datetime) -> tuple[Reason, ...]:
    failed_at, code = ProvisioningAttempt.last_failed_at, ProvisioningAttempt.error_code
    error = func.concat_ws(" ", ProvisioningAttempt.error_class, code)
    in_the_hour = func.count().filter(failed_at >= now - HOUR)
    rows = session.execute(
        select(error, in_the_hour, func.count())
        .where(failed_at >= now - DAY, ~IS_HELPED)
        .group_by(error)
        .order_by(func.count().desc(), error)
    )
    return tuple(Reason(*row) for row in rows)


def _last_sweep(session: Session) -> SweepRun | None:
    over = SweepRun.status.in_((SweepStatus.SUCCEEDED, SweepStatus.FAILED, SweepStatus.ABANDONED))
    real = select(SweepRun).where(over, ~SweepRun.dry_run)
    return session.scalars(real.order_by(SweepRun.id.desc()).limit(1)).one_or_none()
