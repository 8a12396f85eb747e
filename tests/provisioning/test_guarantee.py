"""What several requests of one person are told when one of them did the work."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from sqlalchemy.engine import Connection

from flights import Flights
from house import House
from provisioning.ensure import Outcome
from session_context import Context
from tests.cast import AT_THE_DOOR, BOB, NOW, identity


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
