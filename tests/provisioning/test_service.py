"""The outcome that requests of one user get when another request has done the work."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from sqlalchemy.engine import Connection

from core.single_flight import FreshSingleFlight
from provisioning.context import RequestContext
from provisioning.ensure import Outcome
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import Services


class FollowerSingleFlight(FreshSingleFlight[RequestContext]):
    """A single flight in which the caller always shares the result of another request."""

    def run(
        self,
        key: Hashable,
        work: Callable[[], RequestContext],
        *,
        received_at: float | None = None,
    ) -> tuple[RequestContext, bool]:
        return work(), False


def test_follower_of_a_single_flight_gets_existing_instead_of_created(
    services: Services, connection: Connection
) -> None:
    provisioning = replace(services.provisioning, single_flight=FollowerSingleFlight())

    context = provisioning.context_for(identity_of(BOB), source=PAGE, now=NOW)

    assert (context.outcome, context.status) == (Outcome.EXISTING, "ready")
