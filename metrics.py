"""What is counted, under the names of CONTRACT section 6."""

from prometheus_client import REGISTRY, Counter

ENSURE_RETRIES = Counter(
    "mentorado_ensure_retries_total", "Units of work tried again, by what went wrong.", ["reason"]
)
PROVIDER_REQUESTS = Counter(
    "identity_provider_requests_total", "Questions to the identity provider.", ["call", "result"]
)
CACHE_REQUESTS = Counter(
    "session_cache_requests_total", "Questions to the cache of request contexts.", ["result"]
)


def cache_hit_ratio() -> float | None:
    """How many of this process's questions the cache has answered; None before the first."""
    counted = {
        result: REGISTRY.get_sample_value("session_cache_requests_total", {"result": result}) or 0
        for result in ("hit", "miss", "hit_no_mentorado", "error")
    }
    asked = sum(counted.values())
    return counted["hit"] / asked if asked else None
