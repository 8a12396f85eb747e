"""With which problems can a call be refused? What follows from its stance, method and address.

The reasons stand in the gate, in the readers of bodies and queries, and in the router.
"""

from collections.abc import Iterator

from blueprints.answers import is_api_path
from blueprints.described import Description
from blueprints.problems import PROBLEMS
from blueprints.session import SAFE_METHODS
from blueprints.stance import Access, Stance
from session_context import DENIED, UNDECIDED

PROFILE_CODES = ("mentorado_required", *DENIED, *UNDECIDED)
OF_ANYBODY_KNOWN = ("unauthenticated", "provisioning_unavailable", "database_unavailable")
BY_ACCESS = {
    Access.PUBLIC: (),
    Access.SIGNED_IN: OF_ANYBODY_KNOWN,
    Access.MENTORADO: (*OF_ANYBODY_KNOWN, *PROFILE_CODES),
    Access.ADMIN: (*OF_ANYBODY_KNOWN, "forbidden", *UNDECIDED),
}


def refusals(
    description: Description, stance: Stance, method: str, path: str
) -> dict[int, list[str]]:
    """The codes of a call by status."""
    by_status: dict[int, list[str]] = {}
    for code in sorted({*_codes(description, stance, method, path)}):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def _codes(description: Description, stance: Stance, method: str, path: str) -> Iterator[str]:
    yield "invalid_host"  # the first thing that anybody is asked
    yield from description.codes
    yield from BY_ACCESS[stance.access]
    reasons = (
        (is_api_path(path), ("internal",)),  # whoever asks elsewhere is answered with a page
        (not stance.unlimited, ("rate_limited",)),
        (method not in SAFE_METHODS, ("csrf_failed", "unsupported_media_type")),
        (description.body is not None, ("payload_too_large", "invalid_input")),
        (description.query is not None, ("invalid_input",)),
        ("<" in path, ("not_found",)),
    )
    for applies, codes in reasons:
        yield from codes if applies else ()
