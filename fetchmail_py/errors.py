"""Every way a run can fail: what happened, how far it reaches, whether trying again can help, and the exit status.

An exception carries facts. The sentence a person reads, and the remedy, are written in `cli.explain`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import ClassVar


class ExitStatus(IntEnum):
    """The exit statuses users rely on (README, Exit status); most follow sysexits.h."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    SAFETY = 3
    PARTIAL = 65
    UNAVAILABLE = 69
    DISK = 74
    TRY_AGAIN = 75
    PROTOCOL = 76
    REFUSED_LOGIN = 77
    CONFIG = 78
    SIGINT = 130
    SIGTERM = 143


class Scope(Enum):
    """How much of a run an error stops."""

    RUN = "run"
    ACCOUNT = "account"
    MAILBOX = "mailbox"
    MESSAGE = "message"


class FetchmailError(Exception):
    """Base of everything that is not a defect.

    `detail` is one factual clause without the account's name, without a secret, safe to show (control characters
    are escaped where it is shown).
    """

    kind: ClassVar[str] = "error"
    scope: ClassVar[Scope] = Scope.ACCOUNT
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[ExitStatus] = ExitStatus.DEFECT

    def __init__(self, detail: str, *, hint: str | None = None, mailbox: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.mailbox = mailbox


SAID_MAX = 500
"""Characters of a server's own words that are shown and stored."""


def cut(text: str) -> str:
    """A server's words, cut where they are longer than anybody reads. Secrets must be hidden before: a cut one is not found."""
    return text if len(text) <= SAID_MAX else text[:SAID_MAX] + "…"


class ConfigError(FetchmailError):
    """The configuration is wrong; `file` and `key` (dotted) name the place."""

    kind = "config"
    scope = Scope.RUN
    exit_status = ExitStatus.CONFIG

    def __init__(self, detail: str, *, file: str | None = None, key: str | None = None, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.file = file
        self.key = key


class UsageError(ConfigError):
    """The command line names what there is not, which only the server could tell."""

    kind = "usage"
    exit_status = ExitStatus.USAGE


class CredentialError(FetchmailError):
    """No password could be had; `source` says where it was looked for."""

    kind = "credential"
    exit_status = ExitStatus.CONFIG

    def __init__(self, detail: str, *, source: str | None = None, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.source = source


class ServerUnreachable(FetchmailError):
    """The name does not resolve, or no connection could be made."""

    kind = "unreachable"
    retryable = True
    exit_status = ExitStatus.UNAVAILABLE


class ConnectionLost(FetchmailError):
    """An established connection ended, or went silent for longer than `timeout`."""

    kind = "connection"
    retryable = True
    exit_status = ExitStatus.TRY_AGAIN

    def __init__(self, detail: str, *, timed_out: bool = False, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.timed_out = timed_out


class TlsError(FetchmailError):
    """No encrypted connection: the server does not offer it, or the handshake failed."""

    kind = "tls"
    exit_status = ExitStatus.PROTOCOL


class CertificateError(TlsError):
    """The server's certificate is not trusted. `fingerprint` is the SHA-256 of what it showed, if it was seen."""

    kind = "certificate"
    exit_status = ExitStatus.REFUSED_LOGIN

    def __init__(self, detail: str, *, fingerprint: bytes | None = None, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.fingerprint = fingerprint


class ProtocolError(FetchmailError):
    """The server broke the grammar. `data` holds the offending bytes (at most 200, secrets never among them)."""

    kind = "protocol"
    exit_status = ExitStatus.PROTOCOL

    def __init__(self, detail: str, *, data: bytes = b"", hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.data = bytes(data[:200])


class WrongService(ProtocolError):
    """What answers at the port is a server of another kind than the account says."""


class ServerRefused(FetchmailError):
    """The server said NO, BAD, BYE or -ERR. `code` is the response code, upper case; `text` the server's own words."""

    kind = "refused"
    exit_status = ExitStatus.UNAVAILABLE

    def __init__(
        self,
        command: str,
        status: str,
        text: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        mailbox: str | None = None,
    ) -> None:
        text = cut(text)
        code = code[:100] if code else code
        answer = f"[{code}] {text}" if code else text
        super().__init__(f"{command}: the server answered {status} {answer}".rstrip(), hint=hint, mailbox=mailbox)
        self.command = command
        self.status = status
        self.code = code
        self.text = text

    @property
    def words(self) -> str:
        """What the server said, its code included."""
        answer = f"[{self.code}] {self.text}" if self.code else self.text
        return answer.strip() or "the server gave no reason"


class ServerBusy(ServerRefused):
    """Refused for now: [IN-USE], [LOGIN-DELAY], [SYS/TEMP], [UNAVAILABLE], [INUSE], [LIMIT], throttled."""

    kind = "busy"
    retryable = True
    exit_status = ExitStatus.TRY_AGAIN


class AuthenticationFailed(ServerRefused):
    """The server refused the login."""

    kind = "authentication"
    exit_status = ExitStatus.REFUSED_LOGIN


class StoreError(FetchmailError):
    """The local disk: full, read-only, unreadable. `path` names the place."""

    kind = "disk"
    exit_status = ExitStatus.DISK

    def __init__(self, detail: str, *, path: str | None = None, errno: int | None = None, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.path = path
        self.errno = errno

    @classmethod
    def from_os_error(cls, error: OSError, doing: str, path: object = None) -> StoreError:
        """Facts of an OSError met while `doing` (a phrase such as "writing the message")."""
        where = path if path is not None else error.filename
        if isinstance(where, bytes):
            where = where.decode("utf-8", "backslashreplace")
        name = None if where is None else str(where)
        reason = error.strerror or str(error)
        return cls(f"{doing}: {reason}" + (f": {name}" if name else ""), path=name, errno=error.errno)


class StateTooNew(StoreError):
    """The state database was written by a newer version; it is left untouched."""

    kind = "state"
    exit_status = ExitStatus.CONFIG


class Locked(FetchmailError):
    """Another run holds this account. `pid` is its process, where known."""

    kind = "locked"
    retryable = True
    exit_status = ExitStatus.TRY_AGAIN

    def __init__(self, detail: str, *, pid: int | None = None, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.pid = pid


class SafetyStop(FetchmailError):
    """Stopped before a deletion, or before taking an empty place for an empty mailbox: needs the user's word."""

    kind = "safety"
    exit_status = ExitStatus.SAFETY


class Interrupted(FetchmailError):
    """SIGINT or SIGTERM: the current batch was finished or dropped cleanly."""

    kind = "interrupted"
    scope = Scope.RUN
    retryable = True
    exit_status = ExitStatus.SIGINT

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted by a signal")
        self.signal_number = signal_number
