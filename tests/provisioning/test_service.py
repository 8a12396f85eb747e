"""What several requests of one person are told when one of them did the work."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from sqlalchemy.engine import Connection

from core.single_flight import Flights
from provisioning.context import Context
from provisioning.ensure import Outcome
from tests.support.users import AT_THE_DOOR, BOB, NOW, identity
from web.services import House


class SomebodyElsesFlights(Flights[Context]):
    """Flights on which the caller is always a passenger."""

    def share(self, key: Hashable, ask: Callable[[], Context]) -> tuple[Context, bool]:
        return ask(), False


def test_passenger_is_not_told_that_they_created_the_profile(
    house: House, connection: Connection
) -> None:
    guarantee = replace(house.guarantee, flights=SomebodyElsesFlights())

    context = guarantee.provide(identity(BOB), entry=AT_THE_DOOR, now=NOW)

    assert (context.outcome, context.status) == (Outcome.EXISTING, "ready")
