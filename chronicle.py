"""What is told about every ensuring: a line in the log for what changed, and the numbers of all."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

import metrics
from provisioning.ensure import CHANGES, Ensured, Outcome
from provisioning.errors import ProvisioningError

log = structlog.get_logger(__name__)

Result = TypeVar("Result", Ensured, "Ensured | None")


def told(door: str, started: float, ensuring: Callable[[], Result]) -> Result:
    """Do the ensuring and tell how it went; nothing is told of what came to nothing.

    `started` is when the person began to wait, on the monotonic clock. Raises what the ensuring
    raises.
    """
    try:
        ensured = ensuring()
    except ProvisioningError:
        _count(door, "failed", started)
        raise
    if ensured is not None:
        _count(door, _label(ensured), started)
        _log_change(ensured, door, started)
    return ensured


def _count(door: str, outcome: str, started: float) -> None:
    metrics.ENSURES.labels(door, outcome).inc()
    metrics.ENSURE_SECONDS.labels(door, outcome).observe(time.monotonic() - started)


def _label(ensured: Ensured) -> str:
    """One word for each person: whoever got a profile while others waited for them is a case of its
    own, and an admin without one is as it should be.
    """
    if ensured.is_ambiguous:
        return "ambiguous"
    return Outcome.EXISTING if ensured.outcome is Outcome.ADMIN else ensured.outcome


def _log_change(ensured: Ensured, door: str, started: float) -> None:
    if ensured.outcome not in CHANGES or ensured.mentorado is None:
        return
    facts = {
        "user_id": ensured.user.id,
        "mentorado_id": ensured.mentorado.id,
        "entry": door,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }
    log.info(f"mentorado_{ensured.outcome}", **facts)
    if ensured.is_ambiguous:
        log.warning("mentorado_link_ambiguous", **facts)
