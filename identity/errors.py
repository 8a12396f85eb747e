"""Why a session is not accepted."""


class InvalidTokenError(Exception):
    """This is no usable session token; the message says why, for the log only."""


class KeysUnavailableError(Exception):
    """No token can be checked: the issuer's keys were never seen and it does not answer."""
