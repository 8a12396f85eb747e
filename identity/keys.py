"""The issuer's public keys, fetched when needed, never so often that it hurts the issuer."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

import metrics
from identity.errors import KeysUnavailableError, UnknownKeyError

log = structlog.get_logger(__name__)

FETCH_TIMEOUT_SECONDS = 1.0  # twice this (connect, read) still leaves a first login its two seconds
REFETCH_COOLDOWN_SECONDS = 60.0  # CONTRACT section 3: an unknown `kid` asks at most once a minute
RETRY_COOLDOWN_SECONDS = 2.0  # while no key is known at all, waiting longer would only hurt us
LARGEST_ANSWER_BYTES = 1_000_000

KeySource = Callable[[], Mapping[str, Any]]


def published_at(url: str) -> KeySource:
    """A source that reads a JSON Web Key Set (RFC 7517) over HTTP."""

    def fetch() -> Mapping[str, Any]:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_SECONDS) as answer:  # nosec B310 # noqa: S310 - config.py allows http(s) only
            document = json.loads(answer.read(LARGEST_ANSWER_BYTES))
        if not isinstance(document, dict):
            raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 - bad data, not a bad call
        return document

    return fetch


class KeySet:
    """The keys known so far. Safe to share between threads; one of them fetches, the rest wait."""

    def __init__(self, source: KeySource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._asked_at: float | None = None
        self._lock = threading.Lock()

    @property
    def is_missing(self) -> bool:
        """Whether the issuer was asked and nobody can be let in, because it has told no key yet."""
        return self._asked_at is not None and not self._keys

    def key(self, kid: str) -> PyJWK:
        """The key of that id; an unknown one is asked for, within the cool-down.

        Raises UnknownKeyError for a key the issuer does not publish, KeysUnavailableError when
        nothing is known because the issuer never answered.
        """
        key = self._keys.get(kid)
        if key is None:
            with self._lock:
                if kid not in self._keys and self._may_ask():
                    self._refetch()
                key = self._keys.get(kid)
        if key is not None:
            return key
        if not self._keys:
            raise KeysUnavailableError("the issuer's keys are not known")
        raise UnknownKeyError("unknown key id")

    def holds(self, key: PyJWK) -> bool:
        """Whether this very key is still the one of its id."""
        return self._keys.get(str(key.key_id)) is key

    def _may_ask(self) -> bool:
        """The first keys are asked for until there are some; later ones at most once a minute."""
        if self._asked_at is None:
            return True
        pause = REFETCH_COOLDOWN_SECONDS if self._keys else RETRY_COOLDOWN_SECONDS
        return self._clock() - self._asked_at >= pause

    def _refetch(self) -> None:
        """Replace the keys; while the issuer cannot be reached the old ones stay in force."""
        try:
            fetched = usable_keys(self._source())
        except (OSError, ValueError) as err:
            log.warning("identity_provider_unavailable", call="jwks", error=type(err).__name__)
            fetched = {}
        metrics.PROVIDER_REQUESTS.labels("jwks", "ok" if fetched else "error").inc()
        # The first keys were not asked for because one was missing among them.
        self._asked_at = self._clock() if self._keys or not fetched else None
        self._keys = fetched or self._keys


def usable_keys(document: Mapping[str, Any]) -> dict[str, PyJWK]:
    """The RSA signing keys of a JSON Web Key Set, by their id; strange entries are passed over."""
    entries = document.get("keys")
    candidates = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {kid: key for entry in candidates for kid, key in _rsa_key(entry)}


def _rsa_key(entry: dict[str, Any]) -> list[tuple[str, PyJWK]]:
    """The key of one entry, or nothing: a strange entry must not hide the good ones beside it."""
    kid = entry.get("kid")
    if not isinstance(kid, str) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
        return []
    try:
        return [(kid, jwt.PyJWK(entry, algorithm="RS256"))]
    except (PyJWTError, ValueError, TypeError):
        return []
