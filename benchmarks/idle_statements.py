"""Count the statements that an unused installation sends to its database.

    python -m benchmarks.idle_statements

One web process with its scheduler on a new server, first in use, then idle, with monitors that
read `/metrics`, `/readyz` and `/healthz` every five seconds. The default takes seven minutes. The
exit code is 1 if the idle installation has sent a statement.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import requests

from benchmarks.databases import SimulatedNetwork, network_proxy
from benchmarks.servers import AppServer, run_app, start_postgres

MONITORS = ("/metrics", "/readyz", "/healthz")
MONITOR_SECONDS = 5.0
SETTLING_SECONDS = 60.0  # as in the bounds of docs/reference/contract.md
START_SECONDS = 5.0


def main() -> int:
    """Measure both states and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-after", type=int, default=240, help="DATABASE_IDLE_SECONDS")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    options = parser.parse_args()
    idle_after = str(options.idle_after)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_postgres(Path(folder)) as server,
        network_proxy(server.url) as relay,
        run_app(Path(folder), DATABASE_URL=relay.url, DATABASE_IDLE_SECONDS=idle_after) as app,
    ):
        started = time.monotonic()
        time.sleep(START_SECONDS)
        in_use = statements_per_minute(app, relay, options.seconds)
        idle_at = started + options.idle_after + SETTLING_SECONDS
        time.sleep(max(0.0, idle_at - time.monotonic()))
        idle = statements_per_minute(app, relay, options.seconds)
    print(f"in use, without requests: {in_use:.0f} statements a minute")
    print(f"idle:                     {idle:.0f} statements a minute")
    return int(idle > 0)


def statements_per_minute(app: AppServer, relay: SimulatedNetwork, seconds: float) -> float:
    """Let monitors read for a while, and count what reaches the database."""
    before, ends_at = relay.tally.statements, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        for path in MONITORS:
            requests.get(app.url + path, timeout=10)
        time.sleep(MONITOR_SECONDS)
    return (relay.tally.statements - before) / seconds * 60


if __name__ == "__main__":
    sys.exit(main())
