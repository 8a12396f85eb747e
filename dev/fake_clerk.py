"""The development identity provider: Clerk's keys, users, tokens and browser sessions, locally.

It is never used in production.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from auth.clerk_calls import RefreshRequest
from auth.cookies import CLIENT_UAT, DEV_BROWSER, REFRESH, SESSION, cookie_suffix
from auth.errors import RefreshRefusedError, UnknownAtProviderError
from core import files

HOST = "clerk.local.invalid"  # never resolved: the keys are read from the folder
ISSUER = f"https://{HOST}"
FRONTEND_PATH = "/local-clerk"  # of the app, in place of Clerk's frontend API
PUBLISHABLE_KEY = f"pk_test_{base64.b64encode(f'{HOST}$'.encode()).decode()}"
TOKEN_LIFETIME_SECONDS = 12 * 3600
SESSION_TOKEN_SECONDS = 60  # as Clerk's; afterwards the browser needs a handshake
HANDSHAKE_TOKEN_SECONDS = 60
COOKIE_ATTRIBUTES = "Path=/; Max-Age=31536000; SameSite=Lax"
SUFFIX = cookie_suffix(PUBLISHABLE_KEY)
NONCE = re.compile("[0-9a-f]{32}")  # it names a file
SESSION_CATEGORY = "cl_B7d4PD111AAA"
ADMIN_EMAIL = "admin@example.com"


@dataclass(frozen=True, slots=True)
class DevUser:
    """A user of the development identity provider, with the data that Clerk would have."""

    clerk_id: str
    name: str | None = None
    email: str | None = None
    email_verified: bool = True
    image_url: str | None = None


@dataclass(frozen=True, slots=True)
class DemoUser:
    """A user that the sign-in page offers; `title` and `story` are shown."""

    key: str
    title: str
    story: str
    user: DevUser


DEMO_USERS = (
    DemoUser(
        "nova",
        "Bia Nunes",
        "Alguém que nunca entrou: o perfil nasce neste login.",
        DevUser("", "Bia Nunes", "bia.{tag}@example.com"),
    ),
    DemoUser(
        "recorrente",
        "Alice Prado",
        "Já tem perfil, metas e meses registrados.",
        DevUser("user_local_alice", "Alice Prado", "alice@example.com"),
    ),
    DemoUser(
        "convidada",
        "Eva Melo",
        "Pré-cadastrada pela equipe, com o e-mail verificado.",
        DevUser("user_local_eva", "Eva Melo", "eva@example.com"),
    ),
    DemoUser(
        "impostora",
        "Eva, sem verificação",
        "Usa o e-mail de um pré-cadastro, mas não o verificou.",
        DevUser("user_local_impostora", "Eva Melo", "fabio@example.com", email_verified=False),
    ),
    DemoUser(
        "sem_email",
        "Caio Reis",
        "Entrou por um provedor que não informa e-mail.",
        DevUser("user_local_sem_email", "Caio Reis"),
    ),
    DemoUser(
        "admin",
        "Dona Admin",
        "Cuida do programa e não precisa de perfil.",
        DevUser("user_local_admin", "Dona Admin", ADMIN_EMAIL),
    ),
)


class DevIdentityProvider:
    """Signs tokens as Clerk does, with a key that is created at the first start."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self._users = folder / "people"
        pem = files.read_or_create(folder / "signing_key.pem", _new_private_key)
        self._retired: list[dict[str, Any]] = []
        self._load_key(pem)

    @property
    def secret_key(self) -> str:
        """The secret key of the provider's Backend API; different in every folder."""
        return f"sk_test_{self._derive_secret('backend')[:40]}"

    @property
    def webhook_secret(self) -> str:
        """The secret that signs the provider's webhook messages."""
        return f"whsec_{base64.b64encode(bytes.fromhex(self._derive_secret('webhooks'))).decode()}"

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one stays published, as Clerk's does."""
        self._retired = list(self.key_set()["keys"])
        self._load_key(_new_private_key())

    def key_set(self) -> Mapping[str, Any]:
        """Return the public keys as a JSON Web Key Set (RFC 7517)."""
        current = {**self._public, "kid": self._kid, "use": "sig", "alg": "RS256"}
        return {"keys": [current, *self._retired]}

    def token(self, user: DevUser, *, lifetime_seconds: int = TOKEN_LIFETIME_SECONDS) -> str:
        """Return a session token for a user, with all optional claims that are known."""
        claims: dict[str, Any] = {"sub": user.clerk_id, "sid": f"sess_{secrets.token_hex(12)}"}
        if user.email is not None:
            claims |= {"email": user.email, "email_verified": user.email_verified}
        optional = {"name": user.name, "image_url": user.image_url}
        claims |= {name: value for name, value in optional.items() if value is not None}
        return self.sign(claims, lifetime_seconds)

    def sign(self, claims: Mapping[str, Any], lifetime_seconds: int) -> str:
        """Return a token of the class of session tokens with these claims and lifetime."""
        now = int(self.clock())
        times = {"iss": ISSUER, "iat": now, "nbf": now - 5, "exp": now + lifetime_seconds}
        headers = {"kid": self._kid, "cat": SESSION_CATEGORY}
        return jwt.encode({**claims, **times}, self._key, algorithm="RS256", headers=headers)

    def _load_key(self, pem: bytes) -> None:
        self._key = cast(rsa.RSAPrivateKey, serialization.load_pem_private_key(pem, password=None))
        self._public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._kid = "ins_" + hashlib.sha256(str(self._public["n"]).encode()).hexdigest()[:24]

    def _derive_secret(self, purpose: str) -> str:
        """Derive a secret for one purpose from the secret of this folder."""
        key = files.read_or_create(self.folder / "secret", lambda: secrets.token_bytes(32))
        return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()

    def add_user(self, user: DevUser) -> str:
        """Store a user, and return a session token for it."""
        self.save_user(user)
        return self.token(user)

    def save_user(self, user: DevUser) -> None:
        """Store a user, or replace the stored one."""
        content = json.dumps(asdict(user)).encode()
        files.write_atomically(self._file(user.clerk_id), content)

    def find(self, clerk_id: str) -> DevUser | None:
        """Return the stored user with that id; None if there is none."""
        file = self._file(clerk_id)
        return DevUser(**json.loads(file.read_bytes())) if file.exists() else None

    def user(self, clerk_id: str) -> Mapping[str, Any]:
        """Return a stored user as a Backend API document; raises UnknownAtProviderError."""
        found = self.find(clerk_id)
        if found is None:
            raise UnknownAtProviderError("no user with that id has signed in here")
        return clerk_user(found)

    def users(self, offset: int, limit: int) -> list[Mapping[str, Any]]:
        """Return a page of the stored users, by time."""
        stored = sorted(self._users.glob("*.json"), key=lambda f: (f.stat().st_mtime, f.name))
        page = stored[offset : offset + limit]
        return [clerk_user(DevUser(**json.loads(file.read_bytes()))) for file in page]

    def _file(self, clerk_id: str) -> Path:
        digest = hashlib.sha256(clerk_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._users / f"{digest}.json"


def demo_user(key: str) -> DevUser | None:
    """Return the user of a button on the sign-in page; the new user is another one each time."""
    found = next((demo for demo in DEMO_USERS if demo.key == key), None)
    if found is None or found.user.clerk_id:
        return found.user if found else None
    return new_demo_user(found.user)


def new_demo_user(template: DevUser) -> DevUser:
    """Return the user with a new id, and with a new address where it contains `{tag}`."""
    tag = secrets.token_hex(6)
    email = template.email.replace("{tag}", tag) if template.email else None
    return replace(template, clerk_id=f"user_local_{tag}", email=email)


def clerk_user(user: DevUser) -> dict[str, Any]:
    """Return a user as a document of Clerk's Backend API (GET /v1/users/{id})."""
    first, _, last = (user.name or "").partition(" ")
    status = "verified" if user.email_verified else "unverified"
    address = {"id": "idn_1", "email_address": user.email, "verification": {"status": status}}
    return {
        "object": "user",
        "id": user.clerk_id,
        "first_name": first or None,
        "last_name": last or None,
        "image_url": user.image_url,
        "primary_email_address_id": "idn_1" if user.email else None,
        "email_addresses": [address] if user.email else [],
    }


def _new_private_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser with its session; without `clerk_id` no user is signed in."""

    id: str
    clerk_id: str | None = None
    since: int = 0

    @property
    def session_id(self) -> str:
        """The id of its session; the browser's secret id cannot be derived from it."""
        return f"sess_{hashlib.sha256(self.id.encode()).hexdigest()[:32]}"

    @property
    def refresh_token(self) -> str:
        """The value of its refresh cookie; blank while no user is signed in."""
        content = f"refresh {self.id} {self.since}".encode()
        return f"rt_{hashlib.sha256(content).hexdigest()}" if self.clerk_id else ""


class DevSessions:
    """Stores browsers in files, so that all processes of a development server share them."""

    def __init__(self, provider: DevIdentityProvider) -> None:
        self._provider = provider
        self._folder = provider.folder / "browsers"
        self._nonces = provider.folder / "nonces"

    def browser(self, browser_id: str | None) -> Browser:
        """Return the browser with that id, or a new one that is signed out."""
        if browser_id:
            file = self._file(Browser(browser_id).session_id)
            if file.exists():
                return Browser(**json.loads(file.read_bytes()))
        return self._save(Browser(f"dvb_{secrets.token_hex(16)}"))

    def sign_in(self, browser: Browser, user: DevUser) -> Browser:
        """Sign a user in; this replaces the browser's session."""
        self._provider.save_user(user)
        return self._save(Browser(browser.id, user.clerk_id, int(self._provider.clock())))

    def end(self, session_id: str) -> None:
        """End a session; raises UnknownAtProviderError if there is none with that id."""
        file = self._file(session_id)
        if not file.exists():
            raise UnknownAtProviderError("no such session")
        self._save(Browser(json.loads(file.read_bytes())["id"]))

    def refresh(self, request: RefreshRequest) -> list[str]:
        """Return the Set-Cookie values for a session; raises RefreshRefusedError."""
        file = self._file(request.session_id)
        browser = Browser(**json.loads(file.read_bytes())) if file.exists() else Browser("")
        is_right = hmac.compare_digest(
            browser.refresh_token.encode(), request.refresh_token.encode("utf-8", "replace")
        )
        if not browser.refresh_token or not is_right:
            raise RefreshRefusedError("session_refresh_refused")
        return self.directives(browser, request.origin)

    def directives(self, browser: Browser, origin: str) -> list[str]:
        """Return the Set-Cookie values for a site: with and without suffix, and for refreshing."""
        values = {
            SESSION: self._token(browser, origin),
            CLIENT_UAT: str(browser.since),
            DEV_BROWSER: browser.id,
        }
        named = {name + end: v for name, v in values.items() for end in ("", f"_{SUFFIX}")}
        refresh = _directive(f"{REFRESH}_{SUFFIX}", browser.refresh_token)
        return [*(_directive(name, value) for name, value in named.items()), f"{refresh}; HttpOnly"]

    def handshake_token(self, browser: Browser, origin: str) -> str:
        """Return the signed handshake token for a site."""
        handshake = {"handshake": self.directives(browser, origin)}
        return self._provider.sign(handshake, HANDSHAKE_TOKEN_SECONDS)

    def new_nonce(self, browser: Browser, origin: str) -> str:
        """Store the Set-Cookie values for a site, and return the nonce that gives them once."""
        nonce = secrets.token_hex(16)
        content = json.dumps(self.directives(browser, origin)).encode()
        files.write_atomically(self._nonces / nonce, content)
        return nonce

    def exchange_nonce(self, nonce: str) -> list[str]:
        """Return the Set-Cookie values of a nonce, once; raises UnknownAtProviderError."""
        file = self._nonces / nonce
        if not NONCE.fullmatch(nonce) or not file.exists():
            raise UnknownAtProviderError("no such nonce")
        directives: list[str] = json.loads(file.read_bytes())
        file.unlink()
        return directives

    def _token(self, browser: Browser, origin: str) -> str:
        """Return a session token with Clerk's default claims: the user id, and no other data."""
        if browser.clerk_id is None:
            return ""
        claims = {"sub": browser.clerk_id, "sid": browser.session_id, "azp": origin}
        return self._provider.sign(claims, SESSION_TOKEN_SECONDS)

    def _save(self, browser: Browser) -> Browser:
        content = {"id": browser.id, "clerk_id": browser.clerk_id, "since": browser.since}
        files.write_atomically(self._file(browser.session_id), json.dumps(content).encode())
        return browser

    def _file(self, session_id: str) -> Path:
        digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest}.json"


def _directive(name: str, value: str) -> str:
    return f"{name}={value}; {COOKIE_ATTRIBUTES}" if value else f"{name}=; Path=/; Max-Age=0"
