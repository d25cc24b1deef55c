"""Bytes to typed values and back: no socket, no clock, no disk."""
