"""Concurrent requests of one user share one ensure call; only the first reports `created`."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from sqlalchemy.engine import Connection

from core.single_flight import FreshSingleFlight
from provisioning.context import RequestContext
from provisioning.ensure import Outcome
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import Services


class SharedExecution(FreshSingleFlight[RequestContext]):
    """A single flight in which the caller always shares the execution of another call."""

    def run(self, key: Hashable, ask: Callable[[], RequestContext]) -> tuple[RequestContext, bool]:
        return ask(), False


def test_request_that_shares_an_ensure_call_gets_existing(
    house: Services, connection: Connection
) -> None:
    service = replace(house.provisioning, single_flight=SharedExecution())

    context = service.context_for(identity_of(BOB), source=PAGE, now=NOW)

    assert (context.outcome, context.status) == (Outcome.EXISTING, "ready")
