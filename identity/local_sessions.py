"""The stand-in's browsers: who is signed in where, and the answers to their handshakes."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import instance
from identity.cookies import CLIENT_UAT, DEV_BROWSER, SESSION, suffix_of
from identity.errors import UnknownUserError
from identity.local import PUBLISHABLE_KEY, LocalIdentityProvider, Person

SESSION_TOKEN_SECONDS = 60  # as Clerk's; past it the browser must come for another one
ANSWER_SECONDS = 60
KEPT = "Path=/; Max-Age=31536000; SameSite=Lax"


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser that the stand-in knows; without `clerk_id` nobody is signed in there."""

    id: str
    clerk_id: str | None = None
    since: int = 0

    @property
    def session_id(self) -> str:
        """The id of its session; it tells nobody how to be that browser."""
        return f"sess_{hashlib.sha256(self.id.encode()).hexdigest()[:32]}"


class LocalSessions:
    """Keeps browsers in files, so that all processes of a development server know them."""

    def __init__(self, provider: LocalIdentityProvider) -> None:
        self._provider = provider
        self._folder = provider.folder / "browsers"

    def browser(self, browser_id: str | None) -> Browser:
        """The browser of that id, or a new one in which nobody is signed in."""
        if browser_id:
            file = self._file(Browser(browser_id).session_id)
            if file.exists():
                return Browser(**json.loads(file.read_bytes()))
        return self._kept(Browser(f"dvb_{secrets.token_hex(16)}"))

    def sign_in(self, browser: Browser, person: Person) -> Browser:
        """Somebody signs in, whoever was there before."""
        self._provider.remember(person)
        return self._kept(Browser(browser.id, person.clerk_id, int(self._provider.clock())))

    def end(self, session_id: str) -> None:
        """End a session; raises UnknownUserError where there is none of that id."""
        file = self._file(session_id)
        if not file.exists():
            raise UnknownUserError("no such session")
        self._kept(Browser(json.loads(file.read_bytes())["id"]))

    def directives(self, browser: Browser, origin: str) -> list[str]:
        """The cookies that this browser should hold for a site, plain and with suffix."""
        values = {
            SESSION: self._token(browser, origin),
            CLIENT_UAT: str(browser.since),
            DEV_BROWSER: browser.id,
        }
        endings = ("", f"_{suffix_of(PUBLISHABLE_KEY)}")
        return [
            f"{name}{ending}={value}; {KEPT}" if value else f"{name}{ending}=; Path=/; Max-Age=0"
            for name, value in values.items()
            for ending in endings
        ]

    def answer(self, browser: Browser, origin: str) -> str:
        """The signed answer to a handshake."""
        handshake = {"handshake": self.directives(browser, origin)}
        return self._provider.sign(handshake, ANSWER_SECONDS)

    def _token(self, browser: Browser, origin: str) -> str:
        """A session token as Clerk makes them by default: it says who, and nothing about them."""
        if browser.clerk_id is None:
            return ""
        claims = {"sub": browser.clerk_id, "sid": browser.session_id, "azp": origin}
        return self._provider.sign(claims, SESSION_TOKEN_SECONDS)

    def _kept(self, browser: Browser) -> Browser:
        content = {"id": browser.id, "clerk_id": browser.clerk_id, "since": browser.since}
        instance.write_whole(self._file(browser.session_id), json.dumps(content).encode())
        return browser

    def _file(self, session_id: str) -> Path:
        digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest}.json"
