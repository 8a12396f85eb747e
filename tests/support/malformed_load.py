"""Thousands of spoiled requests, by seed, over bare sockets and over an HTTP client."""

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

from dev.servers import Served
from tests.support.malformed_requests import OF_BODIES, OF_HEADS
from tests.support.raw_http import WIRES, exchange
from tests.support.request_samples import SOUND, Ask, Guests, Route, sound_ask, writing
from web.problems import PROBLEMS

THREADS = 8
MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}
UNKNOWN_CODING = 501  # what gunicorn says to a Transfer-Encoding that it does not know (RFC 9112)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 where nothing did, because the sender had gone."""

    kind: str
    number: int
    status: int
    content_type: str = ""
    body: bytes = b""

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything."""
        if b"Traceback" in self.body or self.status == 500:
            return "an error of ours"
        if self.content_type == "application/problem+json" and self.body:
            return None if self._is_well_formed() else "no problem document"
        return "uncoded" if self.status > 500 and self.status != UNKNOWN_CODING else None

    def _is_well_formed(self) -> bool:
        document: dict[str, Any] = json.loads(self.body)
        problem = PROBLEMS[document["code"]]
        is_right = problem.status == self.status == document["status"]
        return is_right and document.keys() >= MEMBERS and bool(document["detail"])


@dataclass(frozen=True, slots=True)
class Onslaught:
    """Who attacks what."""

    app: Served
    routes: Sequence[Route]
    guests: Guests

    def run(self, requests: int) -> list[Answer]:
        """Send them all, a few at a time, in an order of each thread's own."""
        shares = [range(first, requests, THREADS) for first in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(chain.from_iterable(pool.map(self._send_share, shares)))

    def _send_share(self, numbers: Iterable[int]) -> list[Answer]:
        host, port = self._address
        client = HTTPConnection(host, port, timeout=20)
        try:
            return [self._send(number, client) for number in numbers]
        finally:
            client.close()

    def _send(self, number: int, client: HTTPConnection) -> Answer:
        dice = Random(number)
        ask = sound_ask(dice, self.routes, self.guests)
        way = dice.random()
        if way < 0.35:
            spoil_wire = dice.choice(WIRES)
            return self._exchange(spoil_wire.__name__, number, spoil_wire(dice, ask), dice)
        spoil = dice.choice(OF_HEADS if way < 0.6 else OF_BODIES)
        if spoil in OF_BODIES:
            ask = sound_ask(dice, writing(self.routes), self.guests)
        ask = spoil(dice, ask)
        if dice.random() < 0.4:
            return self._exchange(spoil.__name__, number, ask.wire(), dice)
        return _by_client(spoil.__name__, number, ask, client)

    def _exchange(self, kind: str, number: int, sent: bytes, dice: Random) -> Answer:
        heard = exchange(self._address, sent, hurried=dice.random() < 0.05)
        return _read(f"{kind}, socket", number, heard)

    @property
    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self.app.url)
        return str(parts.hostname), int(parts.port or 0)


def _by_client(kind: str, number: int, ask: Ask, client: HTTPConnection) -> Answer:
    """Over a connection that is kept: a body left unread would spoil the next answer on it."""
    client.putrequest(ask.method, ask.target, skip_host=True, skip_accept_encoding=True)
    for name, value in ask.all_headers():
        if (name, value) != SOUND[1]:
            client.putheader(name, value.encode("latin-1"))
    try:
        client.endheaders(ask.body or None)
        answer = client.getresponse()
        return _answer(f"{kind}, client", number, answer)
    except ConnectionError:  # any other surprise would be an answer to somebody else's question
        client.close()
        return Answer(f"{kind}, client", number, 0)


class _Heard:
    """Bytes that have been heard, as http.client wants to read them."""

    def __init__(self, heard: bytes) -> None:
        self._heard = heard

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self._heard)


def _read(kind: str, number: int, heard: bytes) -> Answer:
    if not heard:
        return Answer(kind, number, 0)
    response = HTTPResponse(cast(Any, _Heard(heard)))
    response.begin()
    return _answer(kind, number, response)


def _answer(kind: str, number: int, response: HTTPResponse) -> Answer:
    try:
        body = response.read()
    except IncompleteRead as err:
        body = err.partial  # to a HEAD, or to somebody who has not read on
    return Answer(kind, number, response.status, response.headers.get_content_type(), body)
