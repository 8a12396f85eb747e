"""Our verdict on a session token equals that of Clerk's SDK, except for the differences below."""

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
from tests.support import session_tokens
from tests.support.session_tokens import ISSUER, NOW, PARTY, Sign, key_of, signed_by_issuer

Variants = frozenset[str]
Verdicts = Mapping[tuple[bool, bool], list[Variants]]  # by our verdict and the verdict of the SDK

ABSENT = object()

# Formatted by hand: one line for each variant would be too long to read.
# fmt: off
# The first word of a variant is the field that it changes, the rest describes the value.
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
# These variants are combined with every variant of the other part, the rest only with these.
CROSSED = {
    "alg usual", "typ absent", "cat session", "cat open", "cat machine", "kid unknown",
    "sub usual", "exp past", "azp absent",
}
BAD_SIGNATURES: dict[str, tuple[object, Sign]] = {
    "none": ("none", session_tokens.unsigned),
    "none with a valid signature": ("none", signed_by_issuer),
    "empty": ("RS256", session_tokens.unsigned), "no alg": (ABSENT, signed_by_issuer),
    "garbage": ("RS256", lambda _: bytes(256)),
    "another key's": ("RS256", session_tokens.signed_by_other_key),
    "truncated": ("RS256", lambda data: signed_by_issuer(data)[:-1]),
    "of other content": ("RS256", lambda data: signed_by_issuer(data + b"x")),
    "RS512": ("RS512", lambda data: RSAAlgorithm(hashes.SHA512).sign(data, key_of("issuer"))),
    "PS256": ("PS256", lambda data: RSAPSSAlgorithm(hashes.SHA256).sign(data, key_of("issuer"))),
    "HS256": ("HS256", session_tokens.signed_with_public_key),
}
WE_ALONE_REFUSE = {
    "the key must be published by the issuer": {"kid unknown", "kid absent", "kid empty"},
    "the type must be JWT where there is one": {"typ access", "typ lower"},
    "the class must be that of a session": {"cat template", "cat machine", "cat empty", "cat list"},
    "the issuer must be the configured one": {"iss other", "iss absent", "iss number", "iss list"},
    "a time must be a number within the range of datetime": {"exp digits", "exp huge"},
    "a token must end": {"exp absent"}, "a token must have a subject": {"sub absent"},
    "a subject must be a usable user id": {
        "sub empty", "sub blank", "sub null-word", "sub None-word", "sub undefined",
        "sub long", "sub NUL", "sub newline", "sub DEL", "sub surrogate",
    },
    "a session must be finished": {"sts pending"},
    "the subject must be a user, not a machine": {"sub machine"},
    "a token must fit into a request header": {"pad long"},
}
WE_ALONE_ACCEPT = {
    "the audience is not checked": {"aud text", "aud list"},
}
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def stopped_clock() -> Iterator[None]:
    """Stop the time of PyJWT, which both verifiers read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jwt.api_jwt.datetime", session_tokens.StoppedClock)
        yield


@pytest.fixture(scope="module")
def by_verdict(stopped_clock: None) -> Verdicts:
    """The variants of all tokens by verdict."""
    verdicts: defaultdict[tuple[bool, bool], list[Variants]] = defaultdict(list)
    for variants, token in corpus():
        verdicts[we_accept(token), sdk_accepts(token)].append(variants)
    return verdicts


def test_corpus_has_enough_tokens_of_each_verdict(by_verdict: Verdicts) -> None:
    assert 300 <= sum(map(len, by_verdict.values())) <= 500
    assert len(by_verdict[True, True]) >= 30
    assert len(by_verdict[False, False]) >= 100


@pytest.mark.parametrize(
    ("verdicts", "table"), [((False, True), WE_ALONE_REFUSE), ((True, False), WE_ALONE_ACCEPT)]
)
def test_each_disagreement_has_one_explanation(
    by_verdict: Verdicts, verdicts: tuple[bool, bool], table: dict[str, set[str]]
) -> None:
    assert [v for v in by_verdict[verdicts] if len(explanations(v, table)) != 1] == []


@pytest.mark.parametrize("name", WE_ALONE_REFUSE | WE_ALONE_ACCEPT)
def test_each_explained_difference_exists_in_each_variant(by_verdict: Verdicts, name: str) -> None:
    verdicts = (False, True) if name in WE_ALONE_REFUSE else (True, False)

    differing = frozenset().union(*by_verdict[verdicts])

    assert (WE_ALONE_REFUSE | WE_ALONE_ACCEPT)[name] <= differing


@pytest.mark.parametrize("prefix", [prefix.value for prefix in TokenPrefix])
def test_machine_token_is_refused(prefix: str) -> None:
    assert not we_accept(f"{prefix}secret")
    assert not we_accept(prefix + changed_token({}))


def we_accept(token: str) -> bool:
    try:
        session_tokens.verifier().verify(token)
    except InvalidTokenError:
        return False
    return True


def sdk_accepts(token: str) -> bool:
    assert not is_machine_token(token), "the SDK would call Clerk"
    options = VerifyTokenOptions(
        jwt_key=public_key_pem(), authorized_parties=[PARTY], clock_skew_in_ms=5000
    )
    try:
        verify_token(token, options)
    except Exception:  # malformed input escapes the SDK in many classes
        return False
    return True


def corpus() -> Iterator[tuple[Variants, str]]:
    """The tokens with their variants."""
    for pair in product(HEADERS, CLAIMS):
        # One token must not have two explained differences.
        if CROSSED.intersection(pair) and len(explanations(frozenset(pair), WE_ALONE_REFUSE)) < 2:
            yield frozenset(pair), changed_token({name: (HEADERS | CLAIMS)[name] for name in pair})
    for bad, claim in product(BAD_SIGNATURES, ("sub usual", "exp past", "azp absent")):
        alg, sign = BAD_SIGNATURES[bad]
        yield frozenset({bad, claim}), changed_token({"alg usual": alg, claim: CLAIMS[claim]}, sign)
    yield from ((frozenset({"malformed"}), token) for token in malformed_tokens())


def changed_token(changes: Mapping[str, object], sign: Sign = signed_by_issuer) -> str:
    """A valid token with these changes."""
    header: dict[str, object] = {"alg": "RS256", "typ": "JWT", "kid": session_tokens.KID}
    claims: dict[str, object] = {"sub": "user_1", "iss": ISSUER, "azp": PARTY}
    claims |= {"iat": NOW, "nbf": NOW, "exp": NOW + 60}
    for variant, value in changes.items():
        (header if variant in HEADERS else claims)[variant.split()[0]] = value
    parts = [{k: v for k, v in part.items() if v is not ABSENT} for part in (header, claims)]
    return session_tokens.compact(parts[0], parts[1], sign)


def malformed_tokens() -> Iterator[str]:
    valid = changed_token({})
    header, payload, signature = valid.split(".")
    yield from ("", "..", "\ud800", "é.é.é", f"{header}.{payload}", f"{header}..{signature}")
    yield from (valid[1:], f" {valid}", f".{valid}", f"x.{valid}", f"Bearer {valid}", f"{valid}.")
    yield from (f"{valid}.x", f"{valid}\n", f"{valid}!", f"{valid}=", f"{valid}==")
    for bad in (b"", b"user_1", b'["user_1"]', b"null", b'{"exp":', b"\xff", b"[" * 9_000):
        for parts in (
            (header.encode(), session_tokens.base64url(bad)),
            (session_tokens.base64url(bad), b"e30"),
        ):
            data = b".".join(parts)
            yield (data + b"." + session_tokens.base64url(signed_by_issuer(data))).decode()


def explanations(variants: Variants, table: Mapping[str, set[str]]) -> list[str]:
    return [name for name, explained in table.items() if explained & variants]


def public_key_pem() -> str:
    public = key_of("issuer").public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
