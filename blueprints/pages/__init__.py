"""The pages of a mentee."""
