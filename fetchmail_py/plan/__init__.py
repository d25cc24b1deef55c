"""Snapshots to decisions: pure, deterministic functions."""
