"""How deeply a JSON document is nested: parsers of Python versions differ in what they refuse."""

DEEPEST = 500  # levels; what Clerk writes has a handful, and recursion ends at a thousand


def is_too_deep(document: object) -> bool:
    """Whether the document has more than `DEEPEST` levels; takes time in proportion to its size."""
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
