"""Loads and measurements: each starts an app of its own, and stops it."""
