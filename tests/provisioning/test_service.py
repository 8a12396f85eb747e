"""What several requests of one person are told when one of them did the work."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from sqlalchemy.engine import Connection

from core.single_flight import FreshSingleFlight
from provisioning.context import RequestContext
from provisioning.ensure import Outcome
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import Services


class SomebodyElsesFlights(FreshSingleFlight[RequestContext]):
    """Flights on which the caller is always a passenger."""

    def run(self, key: Hashable, ask: Callable[[], RequestContext]) -> tuple[RequestContext, bool]:
        return ask(), False


def test_passenger_is_not_told_that_they_created_the_profile(
    services: Services, connection: Connection
) -> None:
    guarantee = replace(services.provisioning, single_flight=SomebodyElsesFlights())

    context = guarantee.context_for(identity_of(BOB), source=PAGE, now=NOW)

    assert (context.outcome, context.status) == (Outcome.EXISTING, "ready")
