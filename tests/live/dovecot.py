"""A private Dovecot on loopback: its own configuration, certificate, users and mail in a temporary directory.

Needs the packages dovecot-imapd and dovecot-pop3d and no privileges; as root it works too. Every port is ephemeral, so
any number of them run side by side. Used by the live tests and by the benchmarks.
"""

from __future__ import annotations

import getpass
import grp
import imaplib
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Self

import trustme

PASSWORD = "correct horse battery staple"
MECHANISMS = "plain login cram-md5 scram-sha-1 scram-sha-256 apop"
SPECIAL_USE = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Trash": "\\Trash", "Junk": "\\Junk", "Archive": "\\Archive"}
SERVICES = ("imap", "imaps", "pop3", "pop3s")

# Where Debian, Fedora and a build from source put what is not on an ordinary user's PATH.
_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/usr/local/bin"))
_LIBEXEC = (Path("/usr/lib/dovecot"), Path("/usr/libexec/dovecot"), Path("/usr/local/libexec/dovecot"))


class Mail(NamedTuple):
    """A message to put on the server: content with CRLF or LF ends, Maildir flag letters, INTERNALDATE in POSIX seconds."""

    data: bytes
    letters: str = ""
    date: int | None = None


class DovecotFailed(Exception):
    """The server did not start; carries its log."""


def missing() -> str | None:
    """What keeps a private Dovecot from running here, in words; None when nothing does."""
    if shutil.which("dovecot", path=_SEARCH_PATH) is None:
        return "Dovecot is not installed (Debian: apt-get install dovecot-imapd dovecot-pop3d)"
    for program in ("imap", "pop3"):
        if not any((directory / program).exists() for directory in _LIBEXEC):
            return f"Dovecot's {program} server is not installed (Debian: apt-get install dovecot-{program}d)"
    return None


class Dovecot:
    """A running server, as a context manager.

    `storage` is what the mail is kept in: "maildir" (LAYOUT=fs: a mailbox name may hold dots, and `deliver` writes files
    directly) or "sdbox" (any mailbox name but with "/" as the separator; `deliver` goes through IMAP).
    `settings` is appended to the configuration, so that it wins: `'imap_capability = IMAP4rev1\\n'`.
    `plugins` are the IMAP mail_plugins; COMPRESS=DEFLATE comes with imap_zlib.
    """

    host = "localhost"
    password = PASSWORD

    def __init__(
        self,
        *,
        users: Iterable[str] = ("ann",),
        storage: Literal["maildir", "sdbox"] = "maildir",
        settings: str = "",
        plugins: Iterable[str] = ("imap_zlib",),
        special_use: Mapping[str, str] = SPECIAL_USE,
        auto_create: bool = False,
        parent: str | os.PathLike[str] | None = None,
    ) -> None:
        # Short: the path of a Unix socket below it has to fit into 108 octets.
        self.directory = Path(tempfile.mkdtemp(prefix="dovecot-", dir=parent))
        self.users = tuple(users)
        self.storage = storage
        self.ports: dict[str, int] = {}
        self.config_file = self.directory / "dovecot.conf"
        self.log_file = self.directory / "log"
        self.ca_file = self.directory / "ca.pem"
        self._settings = settings
        self._plugins = " ".join(plugins)
        self._special_use = dict(special_use)
        self._auto_create = auto_create
        self._process: subprocess.Popen[bytes] | None = None
        self._delivered = 0
        # Dovecot serves no mail as root: then everything below `home` belongs to the system's user for mail.
        self._owner = (os.getuid(), os.getgid())
        if os.geteuid() == 0:
            mail = pwd.getpwnam("mail")
            self._owner = (mail.pw_uid, mail.pw_gid)

    def __enter__(self) -> Self:
        try:
            self._certificate()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def imap_port(self) -> int:
        return self.ports["imap"]

    @property
    def imaps_port(self) -> int:
        return self.ports["imaps"]

    @property
    def pop3_port(self) -> int:
        return self.ports["pop3"]

    @property
    def pop3s_port(self) -> int:
        return self.ports["pop3s"]

    @property
    def certificate(self) -> bytes:
        """The server's certificate, DER."""
        return ssl.PEM_cert_to_DER_cert((self.directory / "server.pem").read_text(encoding="ascii"))

    def home(self, user: str) -> Path:
        """The directory that holds everything of one user's: copy it to multiply a mailbox quickly."""
        return self.directory / "home" / user

    def maildir(self, user: str, mailbox: str = "INBOX") -> Path:
        """The Maildir of a mailbox (storage "maildir"); `mailbox` as Dovecot writes it on disk (modified UTF-7)."""
        assert self.storage == "maildir"
        return self.home(user) / "Maildir" / mailbox

    def log(self) -> str:
        """What the server wrote to its log so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    # Running

    def start(self) -> None:
        """Start, or start again on the same ports after `stop`; returns once all four services have answered."""
        for _ in range(5):
            if not self.ports:
                self.ports = dict(zip(SERVICES, _free_ports(len(SERVICES)), strict=True))
            self._configure()
            try:
                if self._launch():
                    return
            except TimeoutError:
                break
            if "Address already in use" not in self.log():
                break
            self.ports = {}  # somebody took a port between our choice and the server's bind
        raise DovecotFailed(self.log())

    def stop(self) -> None:
        """Stop the server and every session; mail and state stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _launch(self) -> bool:
        program = shutil.which("dovecot", path=_SEARCH_PATH)
        if program is None:
            raise DovecotFailed(missing())
        command = [program, "-F", "-c", str(self.config_file)]
        if setpriv := shutil.which("setpriv"):
            # The server ends with the test run, even with one that was killed.
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        for service in SERVICES:
            while not self._answers(service):
                try:
                    self._process.wait(0.01)
                except subprocess.TimeoutExpired:
                    continue
                self._process = None
                return False
        return True

    def _answers(self, service: str) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports[service]), timeout=10) as connection:
                # A TLS port is silent until the client speaks; that it accepts is all there is to see.
                return service.endswith("s") or bool(connection.recv(1))
        except ConnectionError:
            return False

    def _certificate(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        server = authority.issue_cert("localhost", "127.0.0.1", "::1")
        server.private_key_pem.write_to_path(self.directory / "server.key")
        for n, blob in enumerate(server.cert_chain_pems):
            blob.write_to_path(self.directory / "server.pem", append=n > 0)

    def _configure(self) -> None:
        directory = self.directory
        (directory / "users").write_text("".join(f"{user}:{{PLAIN}}{PASSWORD}::::::\n" for user in self.users))
        for user in self.users:
            self.home(user).mkdir(parents=True, exist_ok=True)
            os.chown(self.home(user), *self._owner)
        location = {"maildir": "maildir:~/Maildir:LAYOUT=fs:INBOX=~/Maildir/INBOX", "sdbox": "sdbox:~/sdbox"}
        special = "".join(
            f"  mailbox {name} {{\n    special_use = {use}\n    auto = {'create' if self._auto_create else 'no'}\n  }}\n"
            for name, use in self._special_use.items()
        )
        listeners = "".join(
            f"service {protocol}-login {{\n  chroot =\n  process_min_avail = 2\n"
            f"  inet_listener {protocol} {{\n    address = 127.0.0.1\n    port = {self.ports[protocol]}\n  }}\n"
            f"  inet_listener {protocol}s {{\n    address = 127.0.0.1\n    port = {self.ports[protocol + 's']}\n"
            f"    ssl = yes\n  }}\n}}\n"
            f"service {protocol} {{\n  process_limit = 1024\n  process_min_avail = 2\n}}\n"
            for protocol in ("imap", "pop3")
        )
        if os.geteuid() == 0:
            # The server's parts that face the network, and those that read mail, do not run as root.
            directory.chmod(0o711)
            accounts = ""
            user = "root"
        else:
            user = getpass.getuser()
            group = grp.getgrgid(os.getgid()).gr_name
            accounts = (
                f"default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n"
            )
        self.config_file.write_text(
            f"""\
protocols = imap pop3
listen = 127.0.0.1
base_dir = {directory}/run
state_dir = {directory}/state
instance_name = {directory.name}
log_path = {self.log_file}
{accounts}default_vsz_limit = 0
default_process_limit = 1024
default_client_limit = 8192
first_valid_uid = 0
first_valid_gid = 0
mail_location = {location[self.storage]}
mail_fsync = never
mail_max_userip_connections = 1000
maildir_very_dirty_syncs = yes
mailbox_list_index = yes
mailbox_idle_check_interval = 1 s
pop3_uidl_format = %v-%u
pop3_no_flag_updates = yes
ssl = yes
ssl_cert = <{directory}/server.pem
ssl_key = <{directory}/server.key
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = yes
auth_mechanisms = {MECHANISMS}
auth_failure_delay = 0
auth_verbose = yes
passdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid={self._owner[0]} gid={self._owner[1]} home={directory}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
{special}}}
{listeners}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service auth-worker {{
  user = {user}
}}
protocol imap {{
  mail_plugins = {self._plugins}
}}
{self._settings}
"""
        )

    # Putting mail there

    def deliver(self, user: str, mailbox: str, messages: Iterable[bytes | Mail]) -> int:
        """Put messages into a mailbox, creating it; returns how many.

        UIDs are given in the order of `messages`. Content is stored with LF ends as Dovecot does itself, so that it
        comes back with CRLF.
        """
        items = (item if isinstance(item, Mail) else Mail(item) for item in messages)
        if self.storage == "sdbox":
            return self._append(user, mailbox, items)
        root = self.maildir(user, _utf7(mailbox))
        for name in ("cur", "new", "tmp"):
            self._mkdir(root / name)
        cur = f"{root}/cur"
        count = 0
        for mail in items:
            self._delivered += 1
            stored = mail.data.replace(b"\r\n", b"\n")
            size = len(stored)
            # S= and W= save the server a look into each file; the leading number orders them.
            name = f"{1_000_000_000 + self._delivered}.M{self._delivered}.live,S={size},W={size + stored.count(10)}"
            path = f"{cur}/{name}:2,{mail.letters}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                written = 0
                while written < size:
                    written += os.write(descriptor, stored[written:] if written else stored)
                os.fchown(descriptor, *self._owner)
                if mail.date is not None:
                    os.utime(descriptor, (mail.date, mail.date))
            finally:
                os.close(descriptor)
            count += 1
        return count

    def _mkdir(self, path: Path) -> None:
        if not path.is_dir():
            self._mkdir(path.parent)
            path.mkdir(exist_ok=True)
            os.chown(path, *self._owner)

    def _append(self, user: str, mailbox: str, items: Iterable[Mail]) -> int:
        flags = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "D": "\\Draft", "T": "\\Deleted"}
        count = 0
        with self.imap(user) as client:
            name = _quoted(mailbox)
            if mailbox.upper() != "INBOX":
                client.create(name)
            for mail in items:
                wire = mail.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                date = "" if mail.date is None else imaplib.Time2Internaldate(mail.date)
                letters = " ".join(flags[letter] for letter in mail.letters)
                status, answer = client.append(name, f"({letters})", date, wire)
                if status != "OK":
                    raise DovecotFailed(f"APPEND to {mailbox}: {answer!r}")
                count += 1
        return count

    @contextmanager
    def imap(self, user: str) -> Iterator[imaplib.IMAP4_SSL]:
        """A logged-in imaplib client, to see what the server holds without any code of ours in between."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        client = imaplib.IMAP4_SSL(self.host, self.imaps_port, ssl_context=context, timeout=60)
        try:
            client.login(user, self.password)
            yield client
        finally:
            client.logout()

    def warm(self, user: str, *mailboxes: str) -> int:
        """Have the server index mailboxes (sizes, dates, the headers clients ask for); returns how many messages."""
        total = 0
        with self.imap(user) as client:
            for mailbox in mailboxes:
                count = int(_text(client.select(_quoted(mailbox), readonly=True)[1][0]))
                total += count
                if count:
                    client.fetch("1:*", "(UID FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE)])")
        return total

    def messages(self, user: str, mailbox: str = "INBOX") -> dict[int, bytes]:
        """UID -> the message as the server sends it."""
        with self.imap(user) as client:
            status, answer = client.select(_quoted(mailbox), readonly=True)
            if status != "OK":
                raise DovecotFailed(f"{mailbox}: {answer!r}")
            if answer == [b"0"]:
                return {}
            _, parts = client.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
        found = {}
        for part in parts:
            if isinstance(part, tuple):
                uid = re.search(rb"UID (\d+)", part[0])
                assert uid is not None
                found[int(uid[1])] = bytes(part[1])
        return found

    def flags(self, user: str, mailbox: str = "INBOX") -> dict[int, frozenset[str]]:
        """UID -> flags and keywords, without \\Recent."""
        with self.imap(user) as client:
            if client.select(_quoted(mailbox), readonly=True)[1] == [b"0"]:
                return {}
            _, parts = client.uid("FETCH", "1:*", "(UID FLAGS)")
        found = {}
        for part in parts:
            match = re.search(r"UID (\d+) FLAGS \(([^)]*)\)", _text(part))
            assert match is not None
            found[int(match[1])] = frozenset(match[2].split()) - {"\\Recent"}
        return found

    def mailboxes(self, user: str) -> list[str]:
        """Mailbox names as on the wire (modified UTF-7), sorted."""
        with self.imap(user) as client:
            lines = client.list()[1]
        names = []
        for line in lines:
            match = re.fullmatch(r'\([^)]*\) "/" (?:"((?:[^"\\]|\\.)*)"|(\S+))', _text(line))
            assert match is not None, line
            names.append(match[2] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1]))
        return sorted(names)


def _text(part: object) -> str:
    assert isinstance(part, bytes), part
    return part.decode("ascii")


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; all are held until the last is chosen, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _utf7(mailbox: str) -> str:
    """Modified UTF-7 (RFC 3501 5.1.3), written apart from the program's own so that neither can hide the other's error."""
    encoded = []
    for run in re.findall(r"[ -~]+|[^ -~]+", mailbox):
        if run.isascii() and run.isprintable():
            encoded.append(run.replace("&", "&-"))
        else:
            encoded.append("&" + run.encode("utf-7").decode("ascii").strip("+-").replace("/", ",") + "-")
    return "".join(encoded)


def _quoted(mailbox: str) -> str:
    return '"' + _utf7(mailbox).replace("\\", "\\\\").replace('"', '\\"') + '"'
