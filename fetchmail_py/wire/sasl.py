"""SASL mechanisms as pure exchanges (RFC 4422, 4616, 2195, 5802, 7677, 7628): base64 challenges in, base64 responses out.

Everything here speaks the base64 that IMAP (RFC 9051, 6.2.2) and POP3 (RFC 5034) put on the wire, so that a session
passes the text behind `+ ` in and sends what comes back plus CRLF. Nothing here is ever shown: no repr, no exception
holds a secret.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from contextlib import suppress

from fetchmail_py.errors import AuthenticationFailed, CredentialError, ProtocolError

STRENGTH: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
"""What auth = "auto" picks from, strongest first. The others are used only by name: CRAM-MD5 and APOP need the server to
keep the password readable, the OAuth2 ones and EXTERNAL need other credentials."""

CLEAR_TEXT = frozenset({"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"})
"""Mechanisms that show the secret itself to whoever reads the connection."""

MECHANISMS = frozenset({*STRENGTH, "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"})

SLOW = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-1"})
"""Mechanisms whose library takes long to import."""

MAX_ROUNDS = 16
MAX_CHALLENGE = 64 * 1024
"""Octets of base64 in one challenge."""
MIN_ITERATIONS = 4096
"""RFC 7677, 4: fewer make the exchange worth attacking off-line."""
MAX_ITERATIONS = 10_000_000
"""More would let a server keep us busy for minutes."""


def load() -> None:
    """Imports the library of the slow mechanisms; one that is not there is missed where it is used."""
    with suppress(ImportError):
        import scramp  # noqa: F401, PLC0415


class Mechanism:
    """One authentication exchange; used once.

    `name` is the mechanism's upper-case name. `error` is what the server said about a refused token (XOAUTH2,
    OAUTHBEARER), without the token, for the message about the refusal that follows.
    """

    __slots__ = ("_deferred", "_first", "_rounds", "error", "name")

    def __init__(self, name: str, first: bytes | None) -> None:
        self.name = name
        self.error: str | None = None
        self._first = first
        self._deferred = False
        self._rounds = 0

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def initial(self) -> bytes | None:
        """The initial response in base64, `=` for an empty one (RFC 4959, 3; RFC 5034, 4); None: the server speaks first."""
        if self._first is None or self._deferred:
            return None
        return _encode(self._first) or b"="

    def defer_initial(self) -> None:
        """The command goes out without the initial response: `respond` gives it for the server's first, empty challenge.

        For servers without SASL-IR, for POP3 command lines over 255 octets (RFC 5034, 4), for Exchange's POP3.
        """
        self._deferred = self._first is not None

    def respond(self, challenge: bytes) -> bytes:
        """The base64 response to the base64 `challenge` (the text behind `+ `, without CRLF).

        Raises ProtocolError for a challenge that makes no sense, AuthenticationFailed where the server refuses inside the exchange.
        """
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise ProtocolError(f"{self.name}: more than {MAX_ROUNDS} challenges", data=challenge)
        if len(challenge) > MAX_CHALLENGE:
            raise ProtocolError(f"{self.name}: a challenge of {len(challenge)} octets", data=challenge)
        if self._deferred and self._first is not None:
            # What the server says here carries nothing (some send "+ go ahead"); only that it asks counts.
            self._deferred = False
            return _encode(self._first)
        try:
            octets = a2b_base64(challenge.strip(), strict_mode=True)
        except Base64Error:
            raise ProtocolError(f"{self.name}: the challenge is not base64", data=challenge) from None
        return _encode(self._answer(octets))

    def finish(self) -> None:
        """The server said the login succeeded: raises ProtocolError unless the exchange allows that."""

    def _answer(self, challenge: bytes) -> bytes:
        """The response to a decoded challenge. A mechanism of one message has none."""
        raise ProtocolError(f"{self.name}: the server asks for more than the mechanism has", data=challenge)


class _Login(Mechanism):
    """LOGIN: user and password, each when asked. What the prompts say differs between servers, their order does not."""

    __slots__ = ("_answers",)

    def __init__(self, user: bytes, secret: bytes) -> None:
        super().__init__("LOGIN", None)
        self._answers = [secret, user]

    def _answer(self, challenge: bytes) -> bytes:
        return self._answers.pop() if self._answers else super()._answer(challenge)


class _CramMd5(Mechanism):
    """CRAM-MD5 (RFC 2195)."""

    __slots__ = ("_secret", "_user")

    def __init__(self, user: bytes, secret: bytes) -> None:
        super().__init__("CRAM-MD5", None)
        self._user = user
        self._secret: bytes | None = secret

    def _answer(self, challenge: bytes) -> bytes:
        if self._secret is None or not challenge:
            # An empty challenge would make an answer that is worth as much as the password.
            raise ProtocolError("CRAM-MD5: the server sent an empty or a second challenge", data=challenge)
        import hmac  # noqa: PLC0415 - only this mechanism needs it

        digest = hmac.new(self._secret, challenge, "md5").hexdigest()
        self._secret = None
        return self._user + b" " + digest.encode("ascii")


class _Bearer(Mechanism):
    """XOAUTH2 (Google, Microsoft) and OAUTHBEARER (RFC 7628): one message; a challenge is the server's reason to refuse."""

    __slots__ = ("_acknowledge", "_secret")

    def __init__(self, name: str, first: bytes, acknowledge: bytes, secret: str) -> None:
        super().__init__(name, first)
        self._acknowledge = acknowledge
        self._secret = secret

    def _answer(self, challenge: bytes) -> bytes:
        if self.error is not None:
            return super()._answer(challenge)
        self.error = challenge.decode("utf-8", "replace").replace(self._secret, "…")[:500]
        return self._acknowledge

    def finish(self) -> None:
        if self.error is not None:
            raise ProtocolError(f"{self.name}: the server refused the token and then accepted the login")


class _Scram(Mechanism):
    """SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, 7677) without channel binding; the cryptography is scramp's."""

    __slots__ = ("_client", "_stage")

    def __init__(self, name: str, user: str, secret: str, nonce: str) -> None:
        from scramp import ScramClient, ScramException  # noqa: PLC0415 - takes tens of milliseconds to import

        try:
            self._client = ScramClient([name], user, secret, c_nonce=nonce)
            first: str = self._client.get_client_first()
        except ScramException as error:
            # SASLprep (RFC 4013) forbids some characters. The exception names the rule, not the character.
            raise CredentialError(f"{name}: user name or password cannot be used: {error}") from None
        self._stage = 0
        super().__init__(name, first.encode("utf-8"))

    def _answer(self, challenge: bytes) -> bytes:
        from scramp import ScramException  # noqa: PLC0415

        try:
            message = challenge.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolError(f"{self.name}: the challenge is not UTF-8", data=challenge) from None
        if message.startswith("e="):
            raise AuthenticationFailed(f"AUTHENTICATE {self.name}", message[:200], "")
        try:
            if self._stage == 0:
                self._stage = 1
                _check_iterations(self.name, message)
                self._client.set_server_first(message)
                final: str = self._client.get_client_final()
                return final.encode("utf-8")
            if self._stage == 1:
                self._stage = 2
                self._client.set_server_final(message)
                self._stage = 3
                return b""
        except ScramException as error:
            raise ProtocolError(f"{self.name}: {error}", data=challenge) from None
        return super()._answer(challenge)

    def finish(self) -> None:
        if self._stage != 3:
            raise ProtocolError(
                f"{self.name}: the server accepted the login without proving that it knows the password"
            )


def _check_iterations(name: str, server_first: str) -> None:
    """Before any of the work is done (RFC 5802, 5.1, attribute i)."""
    count = next((part[2:] for part in server_first.split(",") if part.startswith("i=")), "")
    if not (count.isascii() and count.isdigit() and len(count) <= 8 and MIN_ITERATIONS <= int(count) <= MAX_ITERATIONS):
        allowed = f"allowed are {MIN_ITERATIONS} to {MAX_ITERATIONS}"
        raise ProtocolError(
            f"{name}: the server asks for {count[:20] or 'no'} iterations; {allowed}", data=server_first.encode()
        )


def mechanism(name: str, *, user: str, secret: str, nonce: str, host: str, port: int, authzid: str = "") -> Mechanism:
    """The exchange called `name` (upper case, one of MECHANISMS; ValueError for others) for `user` with `secret`.

    `secret` is the password, or the OAuth2 access token, and is not used by EXTERNAL. `nonce` must be fresh and random: SCRAM
    uses it. `host` and `port` are the server's as configured: OAUTHBEARER names them. Raises CredentialError for user names and
    secrets that cannot be sent.
    """
    refuse_controls(user, secret)
    refuse_controls(authzid, "")
    match name:
        case "PLAIN":
            return Mechanism(name, b"\0".join((octets(authzid), octets(user), octets(secret))))
        case "LOGIN":
            return _Login(octets(user), octets(secret))
        case "CRAM-MD5":
            return _CramMd5(octets(user), octets(secret))
        case "SCRAM-SHA-1" | "SCRAM-SHA-256":
            return _Scram(name, user, secret, nonce)
        case "XOAUTH2":
            _refuse_in_bearer(user, secret)
            return _Bearer(name, octets(f"user={user}\x01auth=Bearer {secret}\x01\x01"), b"", secret)
        case "OAUTHBEARER":
            _refuse_in_bearer(user, secret)
            name_in_header = user.replace("=", "=3D").replace(",", "=2C")
            header = f"n,a={name_in_header},\x01host={host}\x01port={port}\x01auth=Bearer {secret}\x01\x01"
            return _Bearer(name, octets(header), b"\x01", secret)
        case "EXTERNAL":
            return Mechanism(name, octets(authzid))
    raise ValueError(f"no SASL mechanism {name}")


def refuse_controls(user: str, secret: str) -> None:
    """CR, LF and NUL would end the command or the field they stand in: CredentialError, which does not show them."""
    for what, text in (("user name", user), ("password", secret)):
        if "\r" in text or "\n" in text or "\0" in text:
            raise CredentialError(f"the {what} contains a line end or a NUL character")


def octets(text: str) -> bytes:
    """UTF-8; bytes of a password that were no UTF-8 where they were read (surrogate escapes) as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # The original exception holds the text.
        raise CredentialError("the user name or password is not valid Unicode") from None


def _refuse_in_bearer(user: str, token: str) -> None:
    if "\x01" in user:
        raise CredentialError("the user name contains a control character")
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise CredentialError("the access token is empty or contains characters that no token has (RFC 6750, 2.1)")


def _encode(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)
