"""Why there is no conversation with what answers at a port: the likely cause, and what to change, in a sentence each."""

from __future__ import annotations

from typing import Final

from fetchmail_py.errors import CertificateError, ConnectionLost, TlsError, WrongService
from fetchmail_py.session.endpoint import Endpoint

_EXPIRED: Final = {10}
_NOT_YET: Final = {9}
_NAME: Final = {62, 64}
_UNKNOWN: Final = {18, 19, 20, 21}
"""OpenSSL's numbers (X509_V_ERR_…): signed by itself, by a CA that is not trusted, or by one that was not sent along."""
_PIN: Final = "tls_fingerprint (`check` shows it)"
_PORTS: Final = {"IMAP": (993, 143), "POP3": (995, 110)}
"""With TLS from the first octet, and without."""

_SERVICES: Final = (
    (b"* ", "IMAP"),
    (b"+OK", "POP3"),
    (b"-ERR", "POP3"),
    (b"220", "SMTP"),
    (b"421 ", "SMTP"),
    (b"554 ", "SMTP"),
    (b"HTTP/", "HTTP"),
    (b"<!DOC", "HTTP"),
    (b"<html", "HTTP"),
    (b"SSH-", "SSH"),
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
)


def untrusted(endpoint: Endpoint, code: int, words: str) -> CertificateError:
    """The error for a certificate that OpenSSL refuses with this number, in these words."""
    shown = f"{endpoint.host} port {endpoint.port} shows a certificate that"
    if code in _EXPIRED:
        return CertificateError(
            f"{shown} has expired",
            hint=f"whoever runs the server must renew it; or this machine's clock is wrong; to accept it as it is, set {_PIN}",
        )
    if code in _NOT_YET:
        return CertificateError(
            f"{shown} is not yet valid", hint=f"check this machine's clock; to accept it as it is, set {_PIN}"
        )
    if code in _NAME:
        return CertificateError(
            f"{shown} is not for {endpoint.host} ({words})",
            hint=f"set `host` to the name in the certificate, which is the provider's own name for the server; or set {_PIN}",
        )
    if code in _UNKNOWN:
        known = "this machine" if endpoint.ca_file is None else f"neither this machine nor {endpoint.ca_file}"
        verb = "does not know" if endpoint.ca_file is None else "knows"
        return CertificateError(
            f"{shown} is not trusted: {known} {verb} who signed it ({words})",
            hint=f"for a server of your own, set ca_file to its CA's certificate, or {_PIN}; else check `host`",
        )
    return CertificateError(
        f"{shown} is not trusted: {words}", hint=f"check `host`; for a server of your own, set ca_file, or {_PIN}"
    )


def no_tls(endpoint: Endpoint, reason: str) -> TlsError:
    """The error for a handshake that failed for what OpenSSL calls `reason`."""
    at = f"{endpoint.host} port {endpoint.port}"
    if reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        if endpoint.tls == "implicit":
            ports = ", ".join(f"{with_tls} for {name}" for name, (with_tls, _) in _PORTS.items())
            hint = f'set tls = "starttls", or change `port` to the one that has TLS from the start ({ports})'
        else:
            hint = "somebody between here and the server may be changing what it says"
        return TlsError(f"{at} answers without TLS", hint=hint)
    if reason in {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_PROTOCOL_VERSION"}:
        return TlsError(f"{at} has no TLS 1.2 or newer ({reason})", hint="the server's software is too old: ask whoever runs it")
    return TlsError(f"the TLS handshake with {at} failed: {reason}", hint="check `host`, `port` and `tls`")


def another_service(endpoint: Endpoint, protocol: str, said: bytes) -> WrongService | None:
    """The error where the first words of what should be a server of this protocol ("IMAP", "POP3") are another one's."""
    found = next((name for start, name in _SERVICES if said.startswith(start)), None)
    if found is None or found == protocol:
        return None
    at = f"{endpoint.host} port {endpoint.port}"
    if found == "TLS":
        return WrongService(f"{at} wants TLS from the first octet", hint='set tls = "implicit"')
    usual = _usual(endpoint, protocol)
    hint = f"set `port` to the one for {protocol} (usually {usual})"
    if found in _PORTS:
        hint += f', or protocol = "{found.lower()}"'
    return WrongService(f"{at} speaks {found}, not {protocol}", hint=hint)


def no_greeting(endpoint: Endpoint, protocol: str, error: ConnectionLost) -> ConnectionLost:
    """The error where a server accepts the connection and says nothing, as `error` tells."""
    at = f"{endpoint.host} port {endpoint.port}"
    if endpoint.tls == "implicit":
        hint = f"try again later; if it stays so, check `port` ({protocol} is usually at {_usual(endpoint, protocol)})"
    else:
        hint = 'try again later; if it stays so, the port may want TLS from the first octet: set tls = "implicit"'
    return ConnectionLost(f"{at} does not greet: {error.detail}", timed_out=error.timed_out, hint=hint)


def _usual(endpoint: Endpoint, protocol: str) -> int:
    return _PORTS[protocol][endpoint.tls != "implicit"]
