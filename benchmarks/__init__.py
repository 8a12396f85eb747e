"""Load tests and measurements; each starts and stops an app of its own."""
