"""`check`: everything between the configuration and the mail, one line each, with the remedy where something is wrong."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable

from fetchmail_py.config import Account
from fetchmail_py.errors import (
    CertificateError,
    ConfigError,
    CredentialError,
    ExitStatus,
    FetchmailError,
    Locked,
    ServerUnreachable,
    StoreError,
)
from fetchmail_py.model import count_of
from fetchmail_py.plan import patterns
from fetchmail_py.report import CheckLine, plain_words, status_of_error
from fetchmail_py.session import imap_look
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.login import Login
from fetchmail_py.session.transport import Transport
from fetchmail_py.store import memory
from fetchmail_py.store.lock import Lock
from fetchmail_py.store.state import FILE_NAME
from fetchmail_py.sync import place
from fetchmail_py.sync.home import endpoint_of
from fetchmail_py.sync.status import status_of

ROOM = 100e6
"""Octets of free space below which there is no room to work: a batch of messages, and the state's log, fit into less, not much."""
SOON = 14 * 24 * 3600
"""Seconds before its end from which a certificate is worth a word."""
_IMAP_WORTH_KNOWING = (
    "QRESYNC", "CONDSTORE", "UIDPLUS", "MOVE", "LIST-STATUS", "SPECIAL-USE", "COMPRESS=DEFLATE", "OBJECTID", "UTF8=ACCEPT",
)  # fmt: skip


def check_account(
    account: Account,
    secret: Callable[[], str],
    *,
    on_line: Callable[[CheckLine], None],
    words: Callable[[FetchmailError], tuple[str, str | None]] = plain_words,
) -> ExitStatus:
    """Checks one account, telling each result as it is known; returns the status of the first failure, or OK.

    `words` gives an error's (message, remedy). Changes nothing on either side.
    """
    check = _Check(account, secret, on_line, words)
    check.run()
    return check.status


class _Check:
    def __init__(
        self,
        account: Account,
        secret: Callable[[], str],
        on_line: Callable[[CheckLine], None],
        words: Callable[[FetchmailError], tuple[str, str | None]],
    ) -> None:
        self.account = account
        self.endpoint = endpoint_of(account)
        self.login = Login(account.user, account.auth, secret)
        self.status = ExitStatus.OK
        self._blocked = False
        """There can be no Maildir, and so no state either."""
        self._on_line = on_line
        self._words = words

    def run(self) -> None:
        account = self.account
        mode = "" if account.protocol == "pop3" else f", mode {account.mode}"
        self._good("configuration", f"{account.protocol}{mode}, {account.host} port {account.port}, {account.maildir}")
        self._password()
        if self._name():
            self._server()
        self._maildir()
        self._state()

    # -- lines -------------------------------------------------------------------------------------------------------

    def _good(self, what: str, text: str) -> None:
        self._on_line(CheckLine(what, True, text))

    def _info(self, what: str, text: str) -> None:
        self._on_line(CheckLine(what, None, text))

    def _bad(self, what: str, error: FetchmailError) -> None:
        if self.status is ExitStatus.OK:
            self.status = status_of_error(error)
        message, remedy = self._words(error)
        # A ConfigError from here would name its key twice.
        self._on_line(CheckLine(what, False, error.detail if isinstance(error, ConfigError) else message, remedy))

    # -- the steps ---------------------------------------------------------------------------------------------------

    def _password(self) -> None:
        if self.account.auth == "external":
            return
        try:
            self.login.secret()
        except FetchmailError as error:
            self._bad("password", error)
        else:
            self._good("password", "found")

    def _name(self) -> bool:
        try:
            found = socket.getaddrinfo(self.account.host, self.account.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            self._bad(
                "name", ServerUnreachable(f"{self.account.host}: {reason}", hint="check `host`, and this machine's network")
            )
            return False
        self._good("name", ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found)))
        return True

    def _server(self) -> None:
        try:
            if self.account.protocol == "pop3":
                self._pop3()
            else:
                self._imap()
        except CertificateError as error:
            self._bad("TLS", error)
            shown = error.fingerprint or self._shown()
            if shown is not None:
                self._info("TLS", f'the certificate shown is "sha256:{shown.hex()}": if that is yours, set tls_fingerprint to it')
        except CredentialError:
            self._info("login", "not tried, for want of the password")
        except FetchmailError as error:
            self._bad("server", error)

    def _shown(self) -> bytes | None:
        """The SHA-256 of the certificate that nobody trusts: seen on a second connection, which it ends before any login."""
        impossible = self.endpoint._replace(fingerprint=bytes(32))
        try:
            if self.account.protocol == "pop3":
                from fetchmail_py.session.pop3 import Pop3Session  # noqa: PLC0415

                Pop3Session.open(impossible, self.login).close()
            else:
                ImapSession.open(impossible, self.login).close()
        except CertificateError as error:
            return error.fingerprint
        except FetchmailError:
            pass
        return None

    def _connected(self, transport: Transport) -> None:
        milliseconds = transport.round_trip * 1000
        self._good("TCP", f"connected; an answer takes {milliseconds:.1f} ms")
        described = transport.describe_tls()
        if described is None:
            self._info("TLS", "none: everything, also the password, can be read on the way")
            return
        ends = transport.certificate_ends()
        if ends is None:
            self._good("TLS", f"{described}; the certificate has the fingerprint it should")
        else:
            until = time.strftime("%Y-%m-%d", time.localtime(ends))
            soon = " (soon!)" if ends - time.time() < SOON else ""
            self._good("TLS", f"{described}; certificate trusted, until {until}{soon}")

    def _imap(self) -> None:
        alerts: list[str] = []
        session = ImapSession.open(self.endpoint, self.login, on_alert=alerts.append)
        try:
            self._connected(session.transport)
            self._good("login", f"as {self.account.user}")
            offered = [name for name in _IMAP_WORTH_KNOWING if name in session.capabilities]
            self._info("server", f"IMAP{'4rev2' if 'IMAP4REV2' in session.capabilities else '4rev1'}, {' '.join(offered)}")
            listed = [box for box in imap_look.list_mailboxes(session) if box.selectable]
            wanted = [box for box in listed if patterns.wanted(box, self.account.mailboxes)]
            messages = sum(box.messages or 0 for box in wanted)
            text = f"{len(wanted)} of {count_of(len(listed), 'mailbox')}, {count_of(messages, 'message')}"
            if wanted:
                self._good("mailboxes", text)
            else:
                self._bad("mailboxes", ConfigError(f"{text}: `mailboxes` matches none", key="mailboxes"))
            for alert in alerts:
                self._info("server says", alert)
            session.logout()
        finally:
            session.close()

    def _pop3(self) -> None:
        from fetchmail_py.session.pop3 import Pop3Session  # noqa: PLC0415

        session = Pop3Session.open(self.endpoint, self.login)
        try:
            self._connected(session.transport)
            self._good("login", f"as {self.account.user}")
            found = session.capabilities
            words = [word for word, there in (("PIPELINING", found.pipelining), ("UIDL", found.uidl), ("TOP", found.top)) if there]
            self._info("server", f"POP3, {' '.join(words) or 'no extensions announced'}")
            if found.login_delay:
                self._info("LOGIN-DELAY", f"{found.login_delay} seconds between two logins: a run that comes sooner ends with 75")
            if found.expire is not None:
                self._info("EXPIRE", self._expire(found.expire))
            entries = session.listing()
            octets = count_of(sum(entry.size for entry in entries), "octet")
            self._good("maildrop", f"{count_of(len(entries), 'message')}, {octets}")
            if any(entry.uidl is None for entry in entries) and self.account.keep != 0:
                self._bad("keep", ConfigError("the server has no UIDL", key="keep", hint='set keep = "0"'))
            session.quit()
        finally:
            session.close()

    def _expire(self, expire: str) -> str:
        if expire.upper().startswith("NEVER"):
            return "the server keeps mail for ever"
        days = " ".join(expire.split()[:1])
        if not days:
            return "the server deletes mail some day, and does not say when"
        if days == "0":
            return "the server deletes mail at the end of the session that fetched it"
        return f"the server deletes mail after {days} days, whatever `keep` says"

    def _maildir(self) -> None:
        path = self.account.maildir
        try:
            existing = place.nearest(path)
        except StoreError as error:
            self._blocked = True
            self._bad("Maildir", error)
            return
        if not place.may(existing, os.R_OK | os.W_OK | os.X_OK):
            self._bad("Maildir", place.forbidden(existing))
            return
        try:
            stop = place.gone(path, memory.load(self.account.name)[0])
        except FetchmailError as error:
            self._bad("Maildir", error)
            return
        if stop is not None:
            self._bad("Maildir", stop)
            return
        if existing == path:
            self._owner(path)
        room = os.statvfs(existing)
        free = room.f_bavail * room.f_frsize
        made = "" if existing == path else "; it will be made"
        if free < ROOM or (room.f_files and not room.f_favail):
            what = f"only {_room(free)} free" if free < ROOM else "no file can be made: the file system has no inode left"
            hint = f"make room: a run wants at least {_room(ROOM)}"
            self._bad("Maildir", StoreError(f"{path}: {what}", path=existing, errno=errno.ENOSPC, hint=hint))
        else:
            self._good("Maildir", f"{path}, {_room(free)} free{made}")

    def _owner(self, path: str) -> None:
        """Another user's Maildir that may be written to: what a run makes there is private to whoever runs it."""
        owner = os.stat(path).st_uid
        if owner != os.geteuid():
            theirs, ours = place.user_name(owner), place.user_name(os.geteuid())
            text = f"{path} belongs to {theirs}, who could not read what a run by {ours} makes there"
            self._on_line(CheckLine("Maildir", None, text, f"run it as {theirs}"))

    def _state(self) -> None:
        path = self.account.maildir
        file = f"{path}/{FILE_NAME}"
        if self._blocked:
            return  # told with the Maildir
        try:
            there = os.path.isdir(path) and place.has_state(path)
            stop = place.gone(path, memory.load(self.account.name)[0])
            mail = not there and stop is None and place.has_mail(path)
        except FetchmailError as error:
            self._bad("state", error)
            return
        if stop is not None:
            return  # told with the Maildir
        if not there:
            matched = "none, but there is mail: the next sync matches it with the server, and deletes nothing"
            self._info("state", matched if mail else "none yet: the first sync makes it")
            return
        if not place.may(file, os.R_OK | os.W_OK):
            self._bad("state", place.forbidden(file))
            return
        try:
            Lock.acquire(path, create=False).close()
        except Locked as error:
            self._info("state", error.detail)
        except FetchmailError as error:
            self._bad("state", error)
            return
        try:
            status = status_of(self.account)
        except FetchmailError as error:
            self._bad("state", error)
            return
        last = "never" if status.last_sync is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(status.last_sync))
        messages, boxes = count_of(status.messages, "message"), count_of(len(status.mailboxes), "mailbox")
        self._good("state", f"{messages} in {boxes}, last sync {last}")
        if status.restored:
            self._info("state", "not that of the last run (restored?): the next sync compares everything, and deletes nothing")
            if status.namesake is not None:
                self._info("state", status.namesake)
        for stop in status.stops:
            self._bad("folder" if stop.mailbox else "Maildir", stop)


def _room(octets: float) -> str:
    return f"{octets / 1e9:.1f} GB" if octets >= 1e9 else f"{octets / 1e6:.0f} MB"
