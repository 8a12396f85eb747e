"""Who is asking: the only package that knows Clerk."""
