"""The guarantee: whoever is signed in has exactly one profile. SQL and rules, no web."""
