"""A browser's visit, and what is decided about it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from identity.cookies import DEV_BROWSER
from identity.tokens import SessionClaims

API_VERSION = "2026-05-12"  # of Clerk's API whose answers we read
HANDSHAKE, NONCE = "__clerk_handshake", "__clerk_handshake_nonce"
# What Clerk adds to an address on the way back, under its names of today and of yesterday.
CLERKS_OWN = {HANDSHAKE, NONCE, DEV_BROWSER, "__dev_session", "__clerk_help"}


@dataclass(frozen=True, slots=True)
class Visit:
    """What a browser sends along; `url` is the address that it sees, with scheme and host."""

    url: str
    cookies: Mapping[str, str]
    method: str = "GET"
    accept: str = ""
    destination: str = ""  # Sec-Fetch-Dest

    @property
    def is_for_a_document(self) -> bool:
        """Whether a person waits for a page, so that a detour by redirection does no harm."""
        if self.method != "GET":
            return False
        if self.destination:
            return self.destination in ("document", "iframe")
        return self.accept.startswith("text/html")

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the address."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def clean_url(self) -> str:
        """The address without what Clerk has added to it."""
        parts = urlsplit(self.url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in given if name not in CLERKS_OWN]
        return urlunsplit(parts._replace(query=urlencode(kept)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Signed in with `claims`, sent elsewhere to `location`, or signed out for a `reason`."""

    reason: str = ""
    claims: SessionClaims | None = None
    location: str | None = None
    set_cookies: tuple[str, ...] = ()
    is_loop: bool = False

    def after(self, set_cookies: tuple[str, ...]) -> "Verdict":
        """The same, with further cookies to set before its own."""
        return replace(self, set_cookies=(*set_cookies, *self.set_cookies))


def gone(name: str) -> str:
    """The directive that takes a cookie out of the browser."""
    return f"{name}=; Path=/; Max-Age=0"
