"""Servers of well-known providers, so that an account needs no more than an address. Facts as the providers publish them."""

from __future__ import annotations

from typing import NamedTuple


class Provider(NamedTuple):
    """Host names; ports and TLS are the defaults (993 and 995, implicit) everywhere here. None: not offered."""

    imap: str | None
    pop3: str | None
    note: str | None = None
    """What a user must know before the first login."""


_APP = "needs an app password, made in the account's security settings"

PROVIDERS: dict[str, Provider] = {
    "aol": Provider("imap.aol.com", "pop.aol.com", _APP),
    "fastmail": Provider("imap.fastmail.com", "pop.fastmail.com", _APP),
    "gmail": Provider("imap.gmail.com", "pop.gmail.com", _APP),
    "gmx": Provider("imap.gmx.net", "pop.gmx.net", "wants IMAP and POP3 switched on first, in the web mail's settings"),
    "icloud": Provider("imap.mail.me.com", None, _APP),
    "mailbox.org": Provider("imap.mailbox.org", "pop3.mailbox.org"),
    "posteo": Provider("posteo.de", "posteo.de"),
    "t-online": Provider("secureimap.t-online.de", "securepop.t-online.de", "needs the password for e-mail programs"),
    "web.de": Provider("imap.web.de", "pop3.web.de", "wants IMAP and POP3 switched on first, in the web mail's settings"),
    "yahoo": Provider("imap.mail.yahoo.com", "pop.mail.yahoo.com", _APP),
    "zoho": Provider("imap.zoho.com", "pop.zoho.com"),
}


def note_of(host: str) -> str | None:
    """What must be known before a login at this host can succeed, with the provider's name; None where nothing is."""
    for name, provider in PROVIDERS.items():
        if provider.note is not None and host.lower() in {provider.imap, provider.pop3}:
            return f"{name} {provider.note}"
    return None
