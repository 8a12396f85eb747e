"""Authentication with Clerk: tokens, handshake, users and webhooks, without Flask."""
