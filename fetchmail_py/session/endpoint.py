"""Where a server is, and how to speak to it."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """A server and how to speak to it privately."""

    host: str
    port: int
    tls: str = "implicit"
    """"implicit", "starttls" (STLS in POP3), or "none"."""
    timeout: float = 60.0
    """Seconds without an octet after which the server counts as lost; also the limit for connecting."""
    ca_file: str | None = None
    """Trust the certificates in this PEM file too."""
    fingerprint: bytes | None = None
    """SHA-256 of the DER certificate: accept exactly this one, whoever signed it."""
    client_cert: str | None = None
    client_key: str | None = None
    cleartext: bool = False
    """A secret may be shown to a connection that is not encrypted and leaves this machine (`allow_cleartext`)."""
