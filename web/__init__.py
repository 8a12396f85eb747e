"""HTTP plumbing without routes: hooks, access, validation, errors, OpenAPI."""
