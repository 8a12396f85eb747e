"""Who is asking, according to Clerk; no Flask."""
