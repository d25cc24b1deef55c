"""Benchmarks against the peers on a private Dovecot: `make bench`."""
