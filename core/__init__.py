"""Technical base without domain: what every layer above may use."""
