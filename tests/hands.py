"""The hands of a sweep without the sweep: one batch or group at a time."""

from provisioning.closing import Closing
from provisioning.counts import Counts
from provisioning.sweep import Sweeper


def closing_of(sweeper: Sweeper) -> Closing:
    """The hands of that sweeper, which report to nobody."""
    return Closing(
        sweeper.transaction,
        sweeper.provide,
        sweeper.rules,
        Counts(),
        lambda *_: None,
        sweeper.complete,
        sweeper.on_batch,
        sweeper.on_link,
        sweeper.monotonic,
    )
