"""Which way to log in: the wished or the strongest of what the server offers, and the checked credentials for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from fetchmail_py.errors import AuthenticationFailed, FetchmailError, TlsError
from fetchmail_py.wire import sasl

USER: Final = "USER"
"""POP3 USER and PASS (RFC 1939, 7)."""
LOGIN_COMMAND: Final = "LOGIN-COMMAND"
"""IMAP's LOGIN command (RFC 9051, 6.2.3); "LOGIN" is the SASL mechanism."""
APOP: Final = "APOP"
"""POP3 APOP (RFC 1939, 7)."""


class Login(NamedTuple):
    """Who logs in, and how. `auth` is the configuration's word ("auto", "plain", …); `secret` gives the password or token."""

    user: str
    auth: str
    secret: Callable[[], str]
    likely: str = ""
    """The mechanism of the login before this one: what it needs is loaded while the connection is being made."""

    def prepare(self) -> None:
        """Loads what the likely mechanism needs, in a thread: SCRAM's library takes 35 ms, and the network longer."""
        if self.likely in sasl.SLOW:
            threading.Thread(target=sasl.load, name="preload", daemon=True).start()


class NotOffered(AuthenticationFailed):
    """The server does not offer the wished way to log in, or none that we have; nothing was sent."""

    def __init__(self, detail: str, *, hint: str | None = None) -> None:
        # Not ServerRefused's sentence: the server has not answered anything yet.
        FetchmailError.__init__(self, detail, hint=hint)
        self.command = "AUTHENTICATE"
        self.status = ""
        self.code = None
        self.text = detail


def choose(
    login: Login,
    offered: frozenset[str],
    *,
    encrypted: bool,
    plain_login: bool,
    apop: bool,
    protocol: Literal["imap", "pop3"] = "imap",
) -> str:
    """The SASL mechanism's name, or USER, LOGIN_COMMAND or APOP for the protocol's own commands.

    `offered`: the server's SASL mechanisms, upper case (IMAP: capabilities AUTH=…; POP3: CAPA SASL …). `encrypted`: whether a
    secret may be shown to this connection (`Transport.confidential`). `plain_login`: whether USER or LOGIN may be
    used (no LOGINDISABLED). `apop`: whether the POP3 greeting had a timestamp. Raises NotOffered, which names what the server
    offers, and TlsError where the wished way would show the secret to an unencrypted connection.
    """
    own = USER if protocol == "pop3" else LOGIN_COMMAND
    available = set(offered & sasl.MECHANISMS)
    if plain_login:
        available.add(own)
    if apop:
        available.add(APOP)
    candidates = _candidates(login.auth, own)
    shown = [name for name in candidates if name in available]
    if not encrypted:
        safe = [name for name in shown if name not in sasl.CLEAR_TEXT and name != own]
        if shown and not safe:
            raise TlsError(
                f"the connection is not encrypted, and {_word(shown[0])} would show the password",
                hint='set tls = "implicit" or "starttls"',
            )
        shown = safe
    if shown:
        return shown[0]
    all_words = sorted(_word(name) for name in offered | available)
    offers = ", ".join(all_words)[:300] if all_words else "no way to log in"
    if login.auth == "auto":
        raise NotOffered(
            f"no common way to log in; the server offers {offers}",
            hint="name one of them in `auth`" if available else None,
        )
    raise NotOffered(
        f"the server does not offer {_word(candidates[0])}; it offers {offers}",
        hint='set auth = "auto", or to what the server offers',
    )


def _candidates(auth: str, own: str) -> tuple[str, ...]:
    """What the configuration's word allows, best first."""
    word = auth.lower()
    if word == "auto":
        return (*sasl.STRENGTH, own)
    if word == "user":
        return (own,)
    if word == "login" and own == LOGIN_COMMAND:
        # In IMAP the word means either, and shows the server the same.
        return ("LOGIN", LOGIN_COMMAND)
    return (word.upper(),)


def _word(name: str) -> str:
    """A name as people know it."""
    return {USER: "USER/PASS", LOGIN_COMMAND: "the LOGIN command"}.get(name, name)


def credentials(login: Login) -> tuple[str, str]:
    """User and secret for the protocol's own commands. CredentialError for CR, LF or NUL in either."""
    secret = login.secret()
    sasl.refuse_controls(login.user, secret)
    return login.user, secret


def start(login: Login, name: str, *, host: str, port: int) -> sasl.Mechanism:
    """The exchange `name` (as `choose` gave it) for this login, with a fresh nonce."""
    # EXTERNAL's proof is the certificate; asking for a password would be asking for nothing.
    secret = "" if name == "EXTERNAL" else login.secret()
    return sasl.mechanism(name, user=login.user, secret=secret, nonce=os.urandom(18).hex(), host=host, port=port)
