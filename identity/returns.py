"""What a browser brings back from Clerk: fresh cookies, in a signed token or behind a nonce."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from identity.cookies import names_of
from identity.errors import CallNeededError, InvalidTokenError, ProviderUnavailableError
from identity.tokens import TokenVerifier
from identity.visits import HANDSHAKE, NONCE, Visit, gone

log = structlog.get_logger(__name__)

# RFC 6265, section 4.1.1: what a value may hold without misleading anybody who reads it.
DIRECTIVE = re.compile(r"([^=;\s]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)(;[\x20-\x7e]*)?")
# What cannot be a nonce is never asked about: unreserved characters of an address (RFC 3986), few.
NONCE_FORM = re.compile(r"[A-Za-z0-9._~=-]{1,256}")


@dataclass(frozen=True, slots=True)
class Returns:
    """Reads answers for one instance; `exchange` asks the Backend API what a nonce stands for."""

    verifier: TokenVerifier
    suffix: str | None
    is_development: bool
    exchange: Callable[[str], list[str]] | None = field(default=None, repr=False)

    def directives(self, visit: Visit, *, may_call: bool = True) -> tuple[str, ...] | None:
        """The cookies to set, or None where no good answer was brought.

        An address may be made up by another site, so that only development instances, which have no
        other way, read it there: in production it would sign users in as somebody else. Raises
        CallNeededError where only Clerk can tell and `may_call` is False.
        """
        place = visit.query if self.is_development else visit.cookies
        token, nonce = place.get(HANDSHAKE), place.get(NONCE)
        try:
            if nonce and self.exchange is not None and NONCE_FORM.fullmatch(nonce):
                if not may_call:
                    raise CallNeededError("a nonce")
                return self._ours(self.exchange(nonce))
            if not token:
                return None
            return self._ours(self.verifier.directives(token, may_fetch=may_call))
        except (InvalidTokenError, ProviderUnavailableError) as err:
            log.warning("handshake_refused", reason=str(err))
            return None

    def _ours(self, directives: list[str]) -> tuple[str, ...]:
        """Only cookies that keep a session, and the end of those that brought the answer.

        Nothing else is Clerk's to set on our site.
        """
        known = names_of(self.suffix) | {HANDSHAKE, NONCE}
        return tuple(
            directive
            for directive in directives
            if (found := DIRECTIVE.fullmatch(directive)) and found[1] in known
        )


def jar_after(jar: Mapping[str, str], directives: tuple[str, ...]) -> dict[str, str]:
    """The browser's cookies as they will be."""
    pairs = (directive.partition(";")[0].partition("=") for directive in directives)
    return {**jar, **{name: value for name, _, value in pairs}}


def spent(jar: Mapping[str, str]) -> tuple[str, ...]:
    """The directives that take an answer out of the browser, so that it is read once."""
    return tuple(gone(name) for name in (HANDSHAKE, NONCE) if name in jar)
