"""Development and tests only: an identity provider, servers, databases, proxies and demo data."""
