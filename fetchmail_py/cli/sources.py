"""What `backup` copies, an account or a URL, and what the configuration's keys are called where it is a URL."""

from __future__ import annotations

import os
import re

from fetchmail_py.config import Account, account_of
from fetchmail_py.errors import ConfigError

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_SCHEMES = {
    "imaps": ("imap", "implicit"),
    "imap": ("imap", "starttls"),
    "pop3s": ("pop3", "implicit"),
    "pop3": ("pop3", "starttls"),
}


def is_url(source: str) -> bool:
    """Whether the source of a backup is a URL, and not an account's name."""
    return "://" in source


def account_from_url(url: str, maildir: str, **settings: object) -> tuple[Account, str | None]:
    """The account of a backup URL, and the mailbox that its path names.

    `settings` are configuration keys with values as in the file (`ca_file`, `auth`, …). Raises ConfigError.
    """
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - most runs have no URL

    scheme, _, rest = url.partition("://")
    if scheme.lower() not in _SCHEMES:
        raise ConfigError(f"{scheme}:// is no source", hint=f"there are {', '.join(f'{name}://' for name in _SCHEMES)}")
    protocol, tls = _SCHEMES[scheme.lower()]
    authority, _, path = rest.partition("/")
    user, at, _ = authority.rpartition("@")
    if ":" in user:
        raise ConfigError(
            "a password in a URL can be read by everybody on this machine",
            hint="leave it out; it is asked for, or taken from --password-command, --password-file, --password-env or the keyring",
        )
    if not at or not user:
        raise ConfigError(f"the URL names no user: {scheme}://USER@HOST")
    try:
        parts = urlsplit(f"//{authority[len(user) + 1 :]}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"not a URL of a server: {error}") from error
    if parts.query or parts.fragment:
        raise ConfigError("'?' and '#' mean nothing here; in a user name they are written %3F and %23")
    if not host:
        raise ConfigError(f"the URL names no host: {scheme}://USER@HOST")
    if re.search(r"[\s%]", host):
        raise ConfigError(f"{host!r} is no name of a host, and no address", key="host")
    table: dict[str, object] = {
        "protocol": protocol, "tls": tls, "host": host, "user": unquote(user), "maildir": maildir,
    }  # fmt: skip
    if port is not None:
        table["port"] = port
    table |= {"mode": "backup"} if protocol == "imap" else {"keep": "forever"}
    table |= {key: value for key, value in settings.items() if value is not None}
    mailbox = unquote(path) or None
    if mailbox is not None and protocol == "pop3":
        raise ConfigError("a POP3 account has no mailboxes: leave the path out of the URL")
    if mailbox is not None and _CONTROL.search(mailbox):
        raise ConfigError("holds a control character", key="the mailbox in the URL")
    if table.get("auth") == "external":
        raise ConfigError(
            '"external" needs a client certificate', key="auth", hint="only an account of the configuration can name one"
        )
    for key in ("maildir", "ca_file", "password_file"):
        if key in table:
            table[key] = _from_here(str(table[key]))
    return account_of("backup", table), mailbox


def as_backup(account: Account, maildir: str) -> Account:
    """The account, to be copied into a directory of its own: nothing changes at the server, nothing is deleted here."""
    place = _from_here(maildir)
    if not place.strip("/") or place.startswith("~"):
        raise ConfigError("must be a directory for this copy alone", key="maildir")
    return account._replace(maildir=place, mode="backup", keep=None, on_new=None)


def _from_here(path: str) -> str:
    """On the command line, a path begins where we are; in the configuration it could not."""
    whole = os.path.expanduser(path)
    return os.path.abspath(whole) if whole and not whole.startswith("~") else whole


# What might be a word, or a part of a host's name, counts as a key only where it is marked as one.
_OPTION = re.compile(
    r"(?<!-)(?:`?\b(ca_file|tls_fingerprint|password_command|password_file|password_env)\b`?|"
    r'`(auth|timeout)`|\b(auth|timeout)(?= = "))'
    r'(?: = "([\w-]+)")?'
)
_PARTS = {"`host`": "the URL's host", "`port`": "the URL's port", "`user`": "the URL's user", "`tls`": "the URL's scheme"}
_KEYS = {"host": "the host in the URL", "port": "the port in the URL", "user": "the user in the URL", "maildir": "DIR"}


def in_words_of_a_url(text: str) -> str:
    """The text, which names keys of the configuration, with what they are called where a URL was given."""
    for part, name in _PARTS.items():
        text = text.replace(part, name)
    text = re.sub(r'(?:set |use )?tls = "implicit"', "write imaps:// (or pop3s://)", text)
    text = re.sub(r'(?:set |use )?tls = "starttls"', "write imap:// (or pop3://)", text)
    text = re.sub(r'protocol = "(\w+)"', r"\1:// in the URL", text)
    text = text.replace("`check` shows", "openssl s_client shows")

    def option(found: re.Match[str]) -> str:
        key = found[1] or found[2] or found[3]
        return f"--{key.replace('_', '-')}" + (f" {found[4]}" if found[4] else "")

    return _OPTION.sub(option, text)


def key_of_a_url(key: str) -> str:
    """A key of the configuration, which may be dotted, as what it is on the command line."""
    name = key.rpartition(".")[2]
    return _KEYS.get(name) or in_words_of_a_url(f"`{name}`").strip("`")
