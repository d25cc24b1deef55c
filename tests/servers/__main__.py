"""`python -m tests.servers`: both servers with some mail, for trying things by hand. No TLS; loopback only."""

from __future__ import annotations

import signal

from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Server


def main() -> None:
    """Serves until it is interrupted."""
    store = Store()
    store.create("Archive/2026")
    for number, data in enumerate(mails(200)):
        store.append(data, "INBOX" if number % 3 else "Archive/2026", internaldate=1_790_000_000 + 600 * number)
    with ImapServer(store) as imap, Pop3Server(store) as pop3:
        print(f"IMAP on port {imap.port}, POP3 on port {pop3.port}; user {store.user}, password {store.password}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
