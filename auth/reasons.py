"""Why a session is not usable, in the names of Clerk's SDKs (@clerk/backend).

The frontend API receives them as `__clerk_hs_reason`, and the log contains them. A test compares
the values with those of Clerk's package.
"""

import enum


class AuthReason(enum.StrEnum):
    """Why a request is signed out or sent to the handshake (Clerk's `AuthErrorReason`)."""

    UAT_WITHOUT_SESSION = "client-uat-but-no-session-token"
    DEV_BROWSER_MISSING = "dev-browser-missing"
    DEV_BROWSER_SYNC = "dev-browser-sync"
    SESSION_AND_UAT_MISSING = "session-token-and-uat-missing"
    SESSION_MISSING = "session-token-missing"
    SESSION_EXPIRED = "session-token-expired"
    SESSION_BEFORE_UAT = "session-token-iat-before-client-uat"
    SESSION_NOT_YET_VALID = "session-token-nbf"
    SESSION_FROM_THE_FUTURE = "session-token-iat-in-the-future"
    SESSION_WITHOUT_UAT = "session-token-but-no-client-uat"
    TYPE_MISMATCH = "token-type-mismatch"


class TokenReason(enum.StrEnum):
    """Why a token is invalid at any time (Clerk's `TokenVerificationErrorReason`)."""

    INVALID = "token-invalid"
    INVALID_ALGORITHM = "token-invalid-algorithm"
    INVALID_ISSUER = "token-invalid-issuer"
    INVALID_PARTY = "token-invalid-authorized-parties"
    INVALID_SIGNATURE = "token-invalid-signature"
    VERIFICATION_FAILED = "token-verification-failed"
    UNKNOWN_KEY = "jwk-kid-mismatch"


class RefreshReason(enum.StrEnum):
    """Why an expired token was not refreshed (Clerk's `RefreshTokenErrorReason`)."""

    NO_COOKIE = "non-eligible-no-refresh-cookie"
    NOT_GET = "non-eligible-non-get"
    INVALID_SESSION = "invalid-session-token"
    NO_CLIENT = "missing-api-client"
    NOT_DECODED = "expired-session-token-decode-failed"
    NO_SESSION_ID = "expired-session-token-missing-sid-claim"
    FETCH_ERROR = "fetch-error"
    UNEXPECTED_SDK_ERROR = "unexpected-sdk-error"
    UNEXPECTED_API_ERROR = "unexpected-bapi-error"
