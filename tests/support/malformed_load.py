"""Sends thousands of reproducible malformed requests over raw sockets and an HTTP client."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from io import BytesIO
from itertools import chain
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from benchmarks.servers import AppServer
from tests.support.malformed_requests import BODY_MUTATORS, HEAD_MUTATORS
from tests.support.raw_http import RAW_MUTATORS, send_raw
from tests.support.request_samples import (
    BASE_HEADERS,
    Credentials,
    RawRequest,
    Route,
    routes_with_body,
    valid_request,
)
from web.errors import PROBLEMS

THREADS = 8
PROBLEM_KEYS = {"type", "title", "status", "code", "detail", "request_id"}
UNKNOWN_TRANSFER_CODING = 501  # gunicorn's status for an unknown Transfer-Encoding (RFC 9112)


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one request; `status` is 0 if the connection ended without one."""

    kind: str
    number: int
    status: int
    content_type: str = ""
    body: bytes = b""

    @property
    def fault(self) -> str | None:
        """A description of what is wrong with the response, None if it is correct."""
        if b"Traceback" in self.body or self.status == 500:
            return "internal error"
        if self.content_type == "application/problem+json" and self.body:
            return None if self._is_well_formed() else "malformed problem document"
        return "uncoded" if self.status > 500 and self.status != UNKNOWN_TRANSFER_CODING else None

    def _is_well_formed(self) -> bool:
        document: dict[str, Any] = json.loads(self.body)
        problem = PROBLEMS[document["code"]]
        is_right = problem.status == self.status == document["status"]
        return is_right and document.keys() >= PROBLEM_KEYS and bool(document["detail"])


@dataclass(frozen=True, slots=True)
class MalformedLoad:
    """A fuzz test of a served app with requests to these routes."""

    app: AppServer
    routes: Sequence[Route]
    clients: Credentials

    def run(self, requests: int) -> list[Answer]:
        """Send all requests in parallel and return the responses."""
        batches = [range(first, requests, THREADS) for first in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(chain.from_iterable(pool.map(self._send_batch, batches)))

    def _send_batch(self, numbers: Iterable[int]) -> list[Answer]:
        host, port = self._address
        client = HTTPConnection(host, port, timeout=20)
        try:
            return [self._send(number, client) for number in numbers]
        finally:
            client.close()

    def _send(self, number: int, client: HTTPConnection) -> Answer:
        rng = Random(number)
        request = valid_request(rng, self.routes, self.clients)
        choice = rng.random()
        if choice < 0.35:
            mutate_raw = rng.choice(RAW_MUTATORS)
            return self._exchange(mutate_raw.__name__, number, mutate_raw(rng, request), rng)
        mutate = rng.choice(HEAD_MUTATORS if choice < 0.6 else BODY_MUTATORS)
        if mutate in BODY_MUTATORS:
            request = valid_request(rng, routes_with_body(self.routes), self.clients)
        request = mutate(rng, request)
        if rng.random() < 0.4:
            return self._exchange(mutate.__name__, number, request.to_bytes(), rng)
        return _send_by_client(mutate.__name__, number, request, client)

    def _exchange(self, kind: str, number: int, data: bytes, rng: Random) -> Answer:
        received = send_raw(self._address, data, is_reset=rng.random() < 0.05)
        return _parse(f"{kind}, socket", number, received)

    @property
    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self.app.url)
        return str(parts.hostname), int(parts.port or 0)


def _send_by_client(kind: str, number: int, request: RawRequest, client: HTTPConnection) -> Answer:
    """Send over a kept connection, where an unread body would corrupt the next response."""
    client.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers_with_length():
        if (name, value) != BASE_HEADERS[1]:
            client.putheader(name, value.encode("latin-1"))
    try:
        client.endheaders(request.body or None)
        answer = client.getresponse()
        return _answer_of(f"{kind}, client", number, answer)
    except ConnectionError:  # any other error means mixed-up responses
        client.close()
        return Answer(f"{kind}, client", number, 0)


class _ReceivedSocket:
    """Received bytes as a file for http.client."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self._received)


def _parse(kind: str, number: int, received: bytes) -> Answer:
    if not received:
        return Answer(kind, number, 0)
    response = HTTPResponse(cast(Any, _ReceivedSocket(received)))
    response.begin()
    return _answer_of(kind, number, response)


def _answer_of(kind: str, number: int, response: HTTPResponse) -> Answer:
    try:
        body = response.read()
    except IncompleteRead as err:
        body = err.partial  # a response to HEAD, or of a client that stopped reading
    return Answer(kind, number, response.status, response.headers.get_content_type(), body)
