"""A cheap Clerk for benchmarks: published keys, users of any id, and a count of the calls.

python -m benchmarks.clerk_stub PORT KEYS.json
"""

import asyncio
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import requests

from benchmarks.servers import PROJECT, free_port, stop, wait_for
from dev.fake_clerk import ISSUER, DevIdentityProvider, DevUser, clerk_user

KEYS_PATH, CALLS_PATH, USERS_PATH = "/.well-known/jwks.json", "/calls", "/v1/users/"
TOKEN_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class ClerkStub:
    """The running stub, and tokens of its users; a `pk_live_` key has the budget of production."""

    url: str
    provider: DevIdentityProvider
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def settings(self) -> dict[str, str]:
        """The app's settings for this Clerk."""
        return {
            "CLERK_PUBLISHABLE_KEY": f"pk_live_{b64encode(b'clerk.bench.example.com$').decode()}",
            "CLERK_SECRET_KEY": "sk_live_bench",  # nosec B105 # of the stub
            "CLERK_FRONTEND_API_URL": self.url,
            "CLERK_API_URL": self.url,
            "CLERK_ISSUER": ISSUER,
        }

    def tokens(self, number: int, *, with_claims: bool) -> list[str]:
        """Return session tokens of new users: with all claims, or with Clerk's default ones."""
        return [self._token(next(self.numbers), with_claims=with_claims) for _ in range(number)]

    def calls(self) -> int:
        """Return how often users were requested so far."""
        return int(requests.get(f"{self.url}{CALLS_PATH}", timeout=10).text)

    def _token(self, number: int, *, with_claims: bool) -> str:
        user = DevUser(f"user_bench_{number}", f"Pessoa {number}", f"p{number}@bench.example.com")
        if with_claims:
            return self.provider.token(user, lifetime_seconds=TOKEN_SECONDS)
        claims = {"sub": user.clerk_id, "sid": f"sess_{number}"}
        return self.provider.sign(claims, TOKEN_SECONDS)


@contextmanager
def run_clerk_stub(folder: Path) -> Iterator[ClerkStub]:
    """Run the stub in a process of its own."""
    provider = DevIdentityProvider(folder / "clerk")
    keys = folder / "keys.json"
    keys.write_text(json.dumps(provider.key_set()))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.clerk_stub", str(port), str(keys)]
    process = subprocess.Popen(command, cwd=PROJECT, env=os.environ)  # nosec B603
    try:
        wait_for(f"http://127.0.0.1:{port}{KEYS_PATH}")
        yield ClerkStub(f"http://127.0.0.1:{port}", provider)
    finally:
        stop(process)


class _Connection(asyncio.Protocol):
    """Answers the requests of one keep-alive connection."""

    calls = 0

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        template = json.dumps(clerk_user(DevUser("{id}", "Pessoa", "{id}@bench.example.com")))
        self._before, *self._between = template.encode().split(b"{id}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment] # asyncio's type

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1].decode()
        if path == KEYS_PATH:
            body = self._keys
        elif path == CALLS_PATH:
            body = str(_Connection.calls).encode()
        else:
            _Connection.calls += 1
            clerk_id = path.removeprefix(USERS_PATH).encode()
            body = clerk_id.join([self._before, *self._between])
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._transport.write(head.encode() + b"\r\n\r\n" + body)


async def _serve(port: int, keys: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(keys), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
