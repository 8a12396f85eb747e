"""The search term of a request."""

from provisioning.search import SearchTerm
from web.services import services


def search_term(text: str | None) -> SearchTerm | None:
    """Return the term for a typed text; None for no text.

    A client can choose its request id, so a reference code never replaces the other matches.
    """
    if text is None:
        return None
    return SearchTerm(text, services().provisioning.contexts.find_user_of_reference(text))
