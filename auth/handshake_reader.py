"""What the handshake reads of a browser's request: its address, cookies and Clerk's results."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from auth.cookies import DEV_BROWSER, SESSION, session_cookie_names
from auth.errors import CallNeededError, InvalidTokenError, ProviderUnavailableError
from auth.tokens import TokenVerifier

log = structlog.get_logger(__name__)

HANDSHAKE, NONCE = "__clerk_handshake", "__clerk_handshake_nonce"
# Query parameters that Clerk adds to a URL when it redirects back, older names included.
CLERK_PARAMETERS = {HANDSHAKE, NONCE, DEV_BROWSER, "__dev_session", "__clerk_help"}
# RFC 6265, section 4.1.1: the characters of a value that all parsers read alike.
DIRECTIVE = re.compile(r"([^=;\s]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)(;[\x20-\x7e]*)?")
# Only possible nonces are exchanged: at most 256 unreserved characters of a URL (RFC 3986).
NONCE_PATTERN = re.compile(r"[A-Za-z0-9._~=-]{1,256}")


@dataclass(frozen=True, slots=True)
class BrowserRequest:
    """The parts of a request that the handshake reads; `url` is absolute as the browser sees it.

    `is_for_document`: the browser loads a page, so that it follows a redirect.
    """

    url: str
    cookies: Mapping[str, str]
    method: str = "GET"
    is_for_document: bool = False
    headers: Iterable[tuple[str, str]] = field(default=(), repr=False)

    @property
    def origin(self) -> str:
        """The scheme and host of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of the URL."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def clean_url(self) -> str:
        """The URL without Clerk's query parameters."""
        parts = urlsplit(self.url)
        parameters = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in parameters if name not in CLERK_PARAMETERS]
        return urlunsplit(parts._replace(query=urlencode(kept)))


def delete_cookie(name: str) -> str:
    """Return the Set-Cookie value that deletes a cookie."""
    return f"{name}=; Path=/; Max-Age=0"


@dataclass(frozen=True, slots=True)
class HandshakeReader:
    """Reads handshake results of one instance; `exchange` trades a nonce for cookies.

    `can_exchange` returns whether the budget of calls allows that now.
    """

    verifier: TokenVerifier
    suffix: str | None
    is_development: bool
    exchange: Callable[[str], list[str]] | None = field(default=None, repr=False)
    can_exchange: Callable[[], bool] = field(default=lambda: True, repr=False)

    def directives(
        self, request: BrowserRequest, *, may_call: bool = True
    ) -> tuple[str, ...] | None:
        """Return the Set-Cookie values of a handshake result; None without a valid result.

        Another site can choose the URL of a request. In production the result is therefore read
        from cookies only, or a link could sign users in to the account of an attacker. Development
        instances have no other way than the URL. Raises CallNeededError where a call to Clerk is
        needed and `may_call` is False.
        """
        values = self._values(request)
        token, nonce = values.get(HANDSHAKE), values.get(NONCE)
        for read, value in ((self._from_nonce, nonce), (self._from_token, token)):
            if not value:
                continue
            try:
                directives = read(value, may_call=may_call)
            except (InvalidTokenError, ProviderUnavailableError) as err:
                log.warning("handshake_refused", error=str(err))
                continue
            if directives is not None:
                return self.allowed(directives)
        return None

    def may_ask_for_nonce(self, request: BrowserRequest) -> bool:
        """Whether the next handshake may be answered by a nonce.

        Not after a nonce that could not be exchanged, and not without a call left: a signed answer
        needs none.
        """
        return self.exchange is not None and not self.has_nonce(request) and self.can_exchange()

    def has_nonce(self, request: BrowserRequest) -> bool:
        """Whether the request brings a nonce."""
        return NONCE in self._values(request)

    def _values(self, request: BrowserRequest) -> Mapping[str, str]:
        return request.query if self.is_development else request.cookies

    def _from_nonce(self, nonce: str, *, may_call: bool) -> list[str] | None:
        if self.exchange is None or not NONCE_PATTERN.fullmatch(nonce):
            return None
        if not may_call:
            raise CallNeededError("a nonce")
        return self.exchange(nonce)

    def _from_token(self, token: str, *, may_call: bool) -> list[str]:
        return self.verifier.directives(token, may_fetch=may_call)

    def allowed(self, directives: list[str]) -> tuple[str, ...]:
        """Return the directives for session and handshake cookies; Clerk may set no others here."""
        known = session_cookie_names(self.suffix) | {HANDSHAKE, NONCE}
        return tuple(
            directive
            for directive in directives
            if (found := DIRECTIVE.fullmatch(directive)) and found[1] in known
        )


def session_token_of(directives: tuple[str, ...]) -> str:
    """Return the session token that these directives set; of several the last, as Clerk's SDKs."""
    pairs = (directive.partition(";")[0].partition("=") for directive in directives)
    tokens = [value for name, _, value in pairs if name.startswith(SESSION)]
    return tokens[-1] if tokens else ""


def expired_handshake_cookies(jar: Mapping[str, str]) -> tuple[str, ...]:
    """Return the directives that delete a handshake result, so that it is read once."""
    return tuple(delete_cookie(name) for name in (HANDSHAKE, NONCE) if name in jar)
