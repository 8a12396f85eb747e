"""Our verdict on a session token is that of Clerk's own SDK, but for the differences named here."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product

import pytest
from clerk_backend_api.security.machine import is_machine_token
from clerk_backend_api.security.types import TokenPrefix, VerifyTokenOptions
from clerk_backend_api.security.verifytoken import verify_token
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm, RSAPSSAlgorithm

from auth.errors import InvalidTokenError
from tests.auth import test_tokens as forge
from tests.auth.test_tokens import ISSUER, NOW, PARTY, Sign, by_issuer, key_of

Variants = frozenset[str]
Judged = Mapping[tuple[bool, bool], list[Variants]]  # by what we say and what the SDK says

ABSENT = object()

# Set by hand: one line for each variant would be too long to read.
# fmt: off
# The first word of a variant is the field that it changes; the rest, what is strange there.
HEADERS: dict[str, object] = {
    "alg usual": "RS256", "kid unknown": "ins_2", "kid absent": ABSENT, "kid empty": "",
    "kid number": 1, "kid null": None, "typ absent": ABSENT, "typ access": "at+jwt",
    "typ lower": "jwt", "cat session": "cl_B7d4PD111AAA", "cat open": "cl_I7d4PD111III",
    "cat template": "cl_B7d4PD222AAA", "cat machine": "cl_B7d4PD333AAA", "cat empty": "",
    "cat list": ["cl_B7d4PD111AAA"], "crit unknown": ["exp"], "crit empty": [], "b64 false": False,
}
CLAIMS: dict[str, object] = {
    "sub usual": "user_1", "sub longest": "u" * 64, "sub long": "u" * 65, "sub empty": "",
    "sub blank": " ", "sub null-word": "null", "sub None-word": "None", "sub absent": ABSENT,
    "sub NUL": "user\x00", "sub newline": "user_1\n", "sub DEL": "user\x7f", "sub number": 7,
    "sub surrogate": "user\ud800", "sub undefined": "undefined", "sub null": None,
    "exp past": NOW - 3600, "exp leeway": NOW - 4, "exp after-leeway": NOW - 5,
    "exp absent": ABSENT, "exp null": None, "exp word": "tomorrow", "exp digits": str(NOW + 60),
    "exp float": NOW + 0.5, "exp huge": 10**400, "exp endless": float("inf"),
    "exp nan": float("nan"), "exp true": True, "exp list": [NOW + 60],
    "nbf leeway": NOW + 5, "nbf future": NOW + 6, "nbf absent": ABSENT, "nbf word": "now",
    "iat leeway": NOW + 5, "iat future": NOW + 6, "iat absent": ABSENT, "iat word": "now",
    "iss other": "https://clerk.example.org", "iss slash": ISSUER + "/", "iss absent": ABSENT,
    "iss number": 7, "iss list": [ISSUER], "aud text": PARTY, "aud list": [PARTY], "aud empty": "",
    "azp unlisted": "https://evil.example.com", "azp part": PARTY[:-1], "azp number": 7,
    "azp absent": ABSENT, "azp null": None, "azp empty": "", "azp zero": 0,
    "azp list": [PARTY], "azp object": {"name": PARTY},
    "sub machine": "mch_1", "sts pending": "pending", "sts active": "active",
    "jti number": 7, "pad long": "x" * 16_384,
}
# These meet every variant of the other part, the rest only these.
CROSSED = {
    "alg usual", "typ absent", "cat session", "cat open", "cat machine", "kid unknown",
    "sub usual", "exp past", "azp absent",
}
BAD_SIGNATURES: dict[str, tuple[object, Sign]] = {
    "none": ("none", forge.by_nobody), "none above a good one": ("none", by_issuer),
    "empty": ("RS256", forge.by_nobody), "no alg": (ABSENT, by_issuer),
    "garbage": ("RS256", lambda _: bytes(256)), "another key's": ("RS256", forge.by_stranger),
    "truncated": ("RS256", lambda data: by_issuer(data)[:-1]),
    "of other content": ("RS256", lambda data: by_issuer(data + b"x")),
    "RS512": ("RS512", lambda data: RSAAlgorithm(hashes.SHA512).sign(data, key_of("issuer"))),
    "PS256": ("PS256", lambda data: RSAPSSAlgorithm(hashes.SHA256).sign(data, key_of("issuer"))),
    "HS256": ("HS256", forge.by_public_key_as_secret),
}
WE_ALONE_REFUSE = {
    "the key must be one that the issuer names": {"kid unknown", "kid absent", "kid empty"},
    "the type must be JWT where there is one": {"typ access", "typ lower"},
    "the class must be that of a session": {"cat template", "cat machine", "cat empty", "cat list"},
    "the issuer must be ours": {"iss other", "iss absent", "iss number", "iss list"},
    "a time must be a number that a clock can show": {"exp digits", "exp huge"},
    "a token must end": {"exp absent"}, "a token must be about somebody": {"sub absent"},
    "a subject must be able to name a person": {
        "sub empty", "sub blank", "sub null-word", "sub None-word", "sub undefined",
        "sub long", "sub NUL", "sub newline", "sub DEL", "sub surrogate",
    },
    "a session must be finished": {"sts pending"},
    "a token must be about a person, not a machine": {"sub machine"},
    "a token must fit into a request header": {"pad long"},
}
WE_ALONE_ACCEPT = {
    "the audience is not looked at": {"aud text", "aud list"},
}
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def stopped_clock() -> Iterator[None]:
    """Both read the time through PyJWT, so one clock stops for both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jwt.api_jwt.datetime", forge.StoppedClock)
        yield


@pytest.fixture(scope="module")
def judged(stopped_clock: None) -> Judged:
    """The variants of every token, by verdict."""
    verdicts: defaultdict[tuple[bool, bool], list[Variants]] = defaultdict(list)
    for variants, token in corpus():
        verdicts[we_accept(token), sdk_accepts(token)].append(variants)
    return verdicts


def test_corpus_holds_enough_of_either_verdict(judged: Judged) -> None:
    assert 300 <= sum(map(len, judged.values())) <= 500
    assert len(judged[True, True]) >= 30
    assert len(judged[False, False]) >= 100


@pytest.mark.parametrize(
    ("verdicts", "table"), [((False, True), WE_ALONE_REFUSE), ((True, False), WE_ALONE_ACCEPT)]
)
def test_each_disagreement_has_one_name(
    judged: Judged, verdicts: tuple[bool, bool], table: dict[str, set[str]]
) -> None:
    assert [v for v in judged[verdicts] if len(names(v, table)) != 1] == []


@pytest.mark.parametrize("name", WE_ALONE_REFUSE | WE_ALONE_ACCEPT)
def test_named_difference_is_real_in_each_variant(judged: Judged, name: str) -> None:
    verdicts = (False, True) if name in WE_ALONE_REFUSE else (True, False)

    differing = frozenset().union(*judged[verdicts])

    assert (WE_ALONE_REFUSE | WE_ALONE_ACCEPT)[name] <= differing


@pytest.mark.parametrize("prefix", [prefix.value for prefix in TokenPrefix])
def test_machine_token_is_refused(prefix: str) -> None:
    assert not we_accept(f"{prefix}secret")
    assert not we_accept(prefix + forged({}))


def we_accept(token: str) -> bool:
    try:
        forge.verifier().verify(token)
    except InvalidTokenError:
        return False
    return True


def sdk_accepts(token: str) -> bool:
    assert not is_machine_token(token), "the SDK would ask Clerk for its verdict"
    options = VerifyTokenOptions(jwt_key=pem(), authorized_parties=[PARTY], clock_skew_in_ms=5000)
    try:
        verify_token(token, options)
    except Exception:  # malformed input escapes the SDK in many classes
        return False
    return True


def corpus() -> Iterator[tuple[Variants, str]]:
    """The tokens, each with its variants."""
    for pair in product(HEADERS, CLAIMS):
        # Two differences in one token could stand in for each other.
        if CROSSED.intersection(pair) and len(names(frozenset(pair), WE_ALONE_REFUSE)) < 2:
            yield frozenset(pair), forged({name: (HEADERS | CLAIMS)[name] for name in pair})
    for bad, claim in product(BAD_SIGNATURES, ("sub usual", "exp past", "azp absent")):
        alg, sign = BAD_SIGNATURES[bad]
        yield frozenset({bad, claim}), forged({"alg usual": alg, claim: CLAIMS[claim]}, sign)
    yield from ((frozenset({"misshapen"}), token) for token in misshapen())


def forged(changes: Mapping[str, object], sign: Sign = by_issuer) -> str:
    """A good token but for the changes."""
    header: dict[str, object] = {"alg": "RS256", "typ": "JWT", "kid": forge.KID}
    claims: dict[str, object] = {"sub": "user_1", "iss": ISSUER, "azp": PARTY}
    claims |= {"iat": NOW, "nbf": NOW, "exp": NOW + 60}
    for variant, value in changes.items():
        (header if variant in HEADERS else claims)[variant.split()[0]] = value
    parts = [{k: v for k, v in part.items() if v is not ABSENT} for part in (header, claims)]
    return forge.compact(parts[0], parts[1], sign)


def misshapen() -> Iterator[str]:
    good = forged({})
    header, payload, signature = good.split(".")
    yield from ("", "..", "\ud800", "é.é.é", f"{header}.{payload}", f"{header}..{signature}")
    yield from (good[1:], f" {good}", f".{good}", f"x.{good}", f"Bearer {good}", f"{good}.")
    yield from (f"{good}.x", f"{good}\n", f"{good}!", f"{good}=", f"{good}==")
    for bad in (b"", b"user_1", b'["user_1"]', b"null", b'{"exp":', b"\xff", b"[" * 9_000):
        for parts in ((header.encode(), forge.base64url(bad)), (forge.base64url(bad), b"e30")):
            data = b".".join(parts)
            yield (data + b"." + forge.base64url(by_issuer(data))).decode()


def names(variants: Variants, table: Mapping[str, set[str]]) -> list[str]:
    return [name for name, explained in table.items() if explained & variants]


def pem() -> str:
    public = key_of("issuer").public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
