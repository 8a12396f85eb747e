"""The development stand-in for Clerk: its keys, its people, its tokens; never in production."""

import base64
import hashlib
import hmac
import json
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

from auth.cookies import CLIENT_UAT, DEV_BROWSER, SESSION, suffix_of
from auth.errors import UnknownUserError
from core import files
from core import files as instance

HOST = "clerk.local.invalid"  # never resolved: the keys are read from the folder
ISSUER = f"https://{HOST}"
PUBLISHABLE_KEY = f"pk_test_{base64.b64encode(f'{HOST}$'.encode()).decode()}"
TOKEN_LIFETIME_SECONDS = 12 * 3600
SESSION_CATEGORY = "cl_B7d4PD111AAA"
ADMIN_EMAIL = "admin@example.com"


@dataclass(frozen=True, slots=True)
class DevUser:
    """Somebody who can sign in at the stand-in, with what Clerk would know of them."""

    clerk_id: str
    name: str | None = None
    email: str | None = None
    email_verified: bool = True
    image_url: str | None = None


@dataclass(frozen=True, slots=True)
class DemoUser:
    """A member of the cast on the sign-in page; `title` and `story` are shown."""

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
    """Signs tokens as Clerk does, with a key of its own that is made at the first start."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self._people = folder / "people"
        pem = instance.read_or_create(folder / "signing_key.pem", _new_private_key)
        self._retired: list[dict[str, Any]] = []
        self._use(pem)

    @property
    def secret_key(self) -> str:
        """What a caller of the stand-in's Backend API must present; different on every machine."""
        return f"sk_test_{self._derived('backend')[:40]}"

    @property
    def webhook_secret(self) -> str:
        """What the stand-in signs its messages with."""
        return f"whsec_{base64.b64encode(bytes.fromhex(self._derived('webhooks'))).decode()}"

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one stays published, as Clerk does it."""
        self._retired = list(self.key_set()["keys"])
        self._use(_new_private_key())

    def key_set(self) -> Mapping[str, Any]:
        """The public halves, as a JSON Web Key Set (RFC 7517)."""
        current = {**self._public, "kid": self._kid, "use": "sig", "alg": "RS256"}
        return {"keys": [current, *self._retired]}

    def token(self, person: DevUser, *, lifetime_seconds: int = TOKEN_LIFETIME_SECONDS) -> str:
        """A session token for that person, with all the optional claims of CONTRACT section 3."""
        claims: dict[str, Any] = {"sub": person.clerk_id, "sid": f"sess_{secrets.token_hex(12)}"}
        if person.email is not None:
            claims |= {"email": person.email, "email_verified": person.email_verified}
        optional = {"name": person.name, "image_url": person.image_url}
        claims |= {name: value for name, value in optional.items() if value is not None}
        return self.sign(claims, lifetime_seconds)

    def sign(self, claims: Mapping[str, Any], lifetime_seconds: int) -> str:
        """A token of the session's class that says this, and is valid for so long."""
        now = int(self.clock())
        times = {"iss": ISSUER, "iat": now, "nbf": now - 5, "exp": now + lifetime_seconds}
        headers = {"kid": self._kid, "cat": SESSION_CATEGORY}
        return jwt.encode({**claims, **times}, self._key, algorithm="RS256", headers=headers)

    def _use(self, pem: bytes) -> None:
        self._key = cast(rsa.RSAPrivateKey, serialization.load_pem_private_key(pem, password=None))
        self._public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._kid = "ins_" + hashlib.sha256(str(self._public["n"]).encode()).hexdigest()[:24]

    def _derived(self, purpose: str) -> str:
        """A secret of this folder, for one purpose."""
        key = instance.read_or_create(self.folder / "secret", lambda: secrets.token_bytes(32))
        return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()

    def add_user(self, person: DevUser) -> str:
        """Remember the person, as Clerk would, and return a session token for them."""
        self.save_user(person)
        return self.token(person)

    def save_user(self, person: DevUser) -> None:
        """Know this person from now on, as they are now."""
        content = json.dumps(asdict(person)).encode()
        instance.write_atomically(self._file(person.clerk_id), content)

    def find(self, clerk_id: str) -> DevUser | None:
        """The person of that id, if they ever signed in here."""
        file = self._file(clerk_id)
        return DevUser(**json.loads(file.read_bytes())) if file.exists() else None

    def user(self, clerk_id: str) -> Mapping[str, Any]:
        """The person in the words of the Backend API; raises UnknownUserError."""
        person = self.find(clerk_id)
        if person is None:
            raise UnknownUserError("nobody of that id has signed in here")
        return clerk_user(person)

    def users(self, offset: int, limit: int) -> list[Mapping[str, Any]]:
        """Everybody who ever signed in here, a page at a time."""
        files = sorted(self._people.glob("*.json"), key=lambda f: (f.stat().st_mtime, f.name))
        page = files[offset : offset + limit]
        return [clerk_user(DevUser(**json.loads(file.read_bytes()))) for file in page]

    def _file(self, clerk_id: str) -> Path:
        digest = hashlib.sha256(clerk_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._people / f"{digest}.json"


def demo_user(key: str) -> DevUser | None:
    """The person behind a button of the sign-in page; a newcomer is another one every time."""
    role = next((role for role in DEMO_USERS if role.key == key), None)
    if role is None or role.user.clerk_id:
        return role.user if role else None
    return new_demo_user(role.user)


def new_demo_user(person: DevUser) -> DevUser:
    """The same description under an id, and where it asks for one an address, never used before."""
    tag = secrets.token_hex(6)
    email = person.email.replace("{tag}", tag) if person.email else None
    return replace(person, clerk_id=f"user_local_{tag}", email=email)


def clerk_user(person: DevUser) -> dict[str, Any]:
    """The person as Clerk's Backend API describes a user (GET /v1/users/{id})."""
    first, _, last = (person.name or "").partition(" ")
    status = "verified" if person.email_verified else "unverified"
    address = {"id": "idn_1", "email_address": person.email, "verification": {"status": status}}
    return {
        "object": "user",
        "id": person.clerk_id,
        "first_name": first or None,
        "last_name": last or None,
        "image_url": person.image_url,
        "primary_email_address_id": "idn_1" if person.email else None,
        "email_addresses": [address] if person.email else [],
    }


def _new_private_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


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


class DevSessions:
    """Keeps browsers in files, so that all processes of a development server know them."""

    def __init__(self, provider: DevIdentityProvider) -> None:
        self._provider = provider
        self._folder = provider.folder / "browsers"

    def browser(self, browser_id: str | None) -> Browser:
        """The browser of that id, or a new one in which nobody is signed in."""
        if browser_id:
            file = self._file(Browser(browser_id).session_id)
            if file.exists():
                return Browser(**json.loads(file.read_bytes()))
        return self._kept(Browser(f"dvb_{secrets.token_hex(16)}"))

    def sign_in(self, browser: Browser, person: DevUser) -> Browser:
        """Somebody signs in, whoever was there before."""
        self._provider.save_user(person)
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
        files.write_atomically(self._file(browser.session_id), json.dumps(content).encode())
        return browser

    def _file(self, session_id: str) -> Path:
        digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest}.json"
