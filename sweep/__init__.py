"""Reconciliation in the background: users without a profile get one."""
