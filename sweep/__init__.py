"""Background reconciliation: create or link a profile for every user who has none."""
