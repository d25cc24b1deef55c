"""What a run tells the command line: events on the way, and the report at the end. Values only: nothing here has effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from fetchmail_py.errors import ExitStatus, FetchmailError, Interrupted, SafetyStop

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Progress(NamedTuple):
    """How far the download of one mailbox is; sent at most a few times per batch."""

    account: str
    mailbox: str
    done: int
    """Messages of this account that came in so far in this run."""
    total: int
    """Messages of this account known so far to come in; grows while mailboxes are looked at."""
    octets: int
    """Octets of messages received so far."""


class Notice(NamedTuple):
    """Something worth knowing that is no error."""

    account: str
    text: str
    mailbox: str | None = None


class Alert(NamedTuple):
    """What the server wants its user to read (RFC 9051, 7.1, ALERT)."""

    account: str
    text: str


Event: TypeAlias = Progress | Notice | Alert


class Arrival(NamedTuple):
    """A new message, published in its Maildir."""

    mailbox: str
    path: str
    """Where the file is, as delivered (a mail reader may have renamed it since)."""
    size: int
    """Octets as stored."""


class Deferred(NamedTuple):
    """A message that was set aside and is tried again later."""

    mailbox: str
    ident: str
    """A UID, or a UIDL."""
    reason: str


class Planned(Protocol):
    """One planned action: `str()` is the line of a dry run, `as_dict()` the JSON."""

    def as_dict(self) -> Mapping[str, object]:
        """The action's fields, as JSON values."""
        ...


def plain_words(error: FetchmailError) -> tuple[str, str | None]:
    """The bare facts as (message, hint); the command line has better sentences."""
    return error.detail, error.hint


@dataclass(slots=True)
class Report:
    """What a run did for one account. Counts are of messages unless said otherwise."""

    account: str
    dry_run: bool = False
    error: FetchmailError | None = None
    mailboxes: int = 0
    """Mailboxes looked at."""
    downloaded: int = 0
    downloaded_bytes: int = 0
    uploaded: int = 0
    flags_pushed: int = 0
    flags_pulled: int = 0
    moved_local: int = 0
    moved_remote: int = 0
    deleted_local: int = 0
    deleted_remote: int = 0
    deferred: int = 0
    """Messages that are set aside after this run."""
    seconds: float = 0.0
    failures: int = 0
    """Runs in a row, this one included, that failed for a transient cause; 0 after a success."""
    arrivals: list[Arrival] = field(default_factory=list)
    """Newest last."""
    notices: list[str] = field(default_factory=list)
    plan: list[Planned] = field(default_factory=list)
    """A dry run's plan, in the order it would be performed."""
    stops: list[SafetyStop] = field(default_factory=list)
    """Mailboxes that the guard against mass deletion left alone."""

    @property
    def failure(self) -> FetchmailError | None:
        """What decides over the exit status, deferred messages aside: the error, else the first stop."""
        return self.error or (self.stops[0] if self.stops else None)

    @property
    def ok(self) -> bool:
        """Whether everything that was to be done was done."""
        return self.failure is None and self.deferred == 0

    @property
    def exit_status(self) -> ExitStatus:
        """The status this account alone would end the program with (`report_after` aside)."""
        failure = self.failure
        if failure is not None:
            return status_of_error(failure)
        return ExitStatus.PARTIAL if self.deferred else ExitStatus.OK

    def to_json(self, words: Callable[[FetchmailError], tuple[str, str | None]] = plain_words) -> dict[str, object]:
        """The object `sync --json` prints. `words` gives an error's (message, hint)."""
        document: dict[str, object] = {
            "account": self.account,
            "ok": self.ok,
            "error": None if self.failure is None else error_json(self.failure, words),
            "mailboxes": self.mailboxes,
            "downloaded": self.downloaded,
            "downloaded_bytes": self.downloaded_bytes,
            "uploaded": self.uploaded,
            "flags_pushed": self.flags_pushed,
            "flags_pulled": self.flags_pulled,
            "moved_local": self.moved_local,
            "moved_remote": self.moved_remote,
            "deleted_local": self.deleted_local,
            "deleted_remote": self.deleted_remote,
            "deferred": self.deferred,
            "seconds": round(self.seconds, 3),
            "notices": list(self.notices),
            "stops": [error_json(stop, words) for stop in self.stops],
        }
        if self.dry_run or self.plan:
            document["plan"] = [action.as_dict() for action in self.plan]
        return document


def status_of_error(error: FetchmailError) -> ExitStatus:
    """The exit status an error ends the program with; a signal's is 128 and its number."""
    if isinstance(error, Interrupted):
        return ExitStatus(128 + error.signal_number)
    return error.exit_status


def error_json(
    error: FetchmailError, words: Callable[[FetchmailError], tuple[str, str | None]] = plain_words
) -> dict[str, Json]:
    """An error as `--json` shows it."""
    message, hint = words(error)
    return {"kind": error.kind, "message": message, "hint": hint, "mailbox": error.mailbox}


class CheckLine(NamedTuple):
    """One line of `check`."""

    what: str
    """What was looked at, in a word or two: "TLS", "login"."""
    ok: bool | None
    """None: for information only."""
    text: str
    remedy: str | None = None


class MailboxStatus(NamedTuple):
    """One mailbox as the local state has it."""

    name: str
    messages: int
    bytes: int
    """Octets as stored."""
    last_sync: float | None
    """POSIX seconds."""
    last_error: str | None
    deferred: int


class AccountStatus(NamedTuple):
    """One account as the local state has it; nothing here was asked of the server."""

    account: str
    mailboxes: list[MailboxStatus]
    messages: int
    bytes: int
    last_sync: float | None
    """POSIX seconds of the last run that succeeded; None: never."""
    last_error: str | None
    deferred: list[Deferred]
    failures: int
    """Runs in a row that failed for a transient cause."""
    stops: list[SafetyStop]
    """What the next run will stop at, as this side alone tells: the Maildir is gone, or a mailbox's folder is another."""
    restored: bool
    """The state is not the one that the last run left: the next run compares everything, and deletes nothing."""
    namesake: str | None = None
    """What there is to say where an account of the same name may be another configuration's."""
