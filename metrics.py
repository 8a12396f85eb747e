"""What is counted, under the names of CONTRACT section 6."""

from prometheus_client import Counter

ENSURE_RETRIES = Counter(
    "mentorado_ensure_retries_total", "Units of work tried again, by what went wrong.", ["reason"]
)
PROVIDER_REQUESTS = Counter(
    "identity_provider_requests_total", "Questions to the identity provider.", ["call", "result"]
)
