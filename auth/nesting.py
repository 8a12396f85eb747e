"""The nesting depth of JSON documents: parsers of Python versions differ in what they refuse."""

DEEPEST = 500  # levels; Clerk's documents have about five, and recursion ends at a thousand


def is_too_deep(document: object) -> bool:
    """Whether the document has more than `DEEPEST` levels; takes linear time."""
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for part in level
            if isinstance(part, dict | list)
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True
