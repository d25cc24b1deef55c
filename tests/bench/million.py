"""A mailbox of a million messages: the state and the names in the Maildir are real, the server makes its messages up."""

from __future__ import annotations

import os
from pathlib import Path

from fetchmail_py.model import NO_FLAGS, Delivered, MailboxName, MessageKey, Stage, Uid
from fetchmail_py.store.state import FILE_NAME, StateDb
from tests.bench.harness import Cost
from tests.bench.twoway import TwoWay
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Message, Store

MILLION = 1_000_000
LETTER = b"Subject: one of many\n\n"


class Million(TwoWay):
    """Needs no Dovecot."""

    def two_million(self) -> None:
        """Nothing new in a million messages; then in a directory that was written to."""
        store = Store(password=self.server.password)
        inbox = store.mailboxes["INBOX"]
        inbox.messages = [Message(1, LETTER, set(), 0, 1)] * MILLION
        inbox.uidnext, inbox.highestmodseq = MILLION + 1, 1
        place = self.place()
        self._seed(place / "mail", inbox.uidvalidity)
        with ImapServer(store) as server:
            for _ in range(3):
                self._run(place, server.port)
            costs = [self._run(place, server.port) for _ in range(self.runs)]
            self.tell("Two-way, nothing new in 1,000,000 messages", {"fetchmail-py": costs}, "", "under 1 s")
            costs = []
            for number in range(self.runs):
                cur = place / "mail/INBOX/cur"
                passing = cur / f"{_key(number + MILLION)}:2,"
                passing.touch()  # the directory has changed, and nothing in it
                passing.unlink()
                costs.append(self._run(place, server.port))
            self.tell("the same, every name compared with the state", {"fetchmail-py": costs}, "", "300 MB")

    def _run(self, place: Path, port: int) -> Cost:
        config = place / "config.toml"
        config.write_text(
            f'[accounts.a]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nuser = "ann"\n'
            f'password_env = "BENCH_PASSWORD"\nmaildir = "{place}/mail"\n'
        )
        environment = {"BENCH_PASSWORD": self.server.password, "XDG_STATE_HOME": str(place / "state")}
        return self.run([self.program, "--config", str(config), "sync"], environment)

    @staticmethod
    def _seed(maildir: Path, uidvalidity: int) -> None:
        for name in ("cur", "new", "tmp"):
            (maildir / "INBOX" / name).mkdir(parents=True, mode=0o700)
        state = StateDb.open(str(maildir / FILE_NAME))
        state.put("store_id", "a state that has seen all there is")
        row = state.add_mailbox(MailboxName("INBOX"), "/", "INBOX")
        row.uidvalidity, row.uidnext, row.highestmodseq, row.messages = uidvalidity, MILLION + 1, 1, MILLION
        row.settled = True
        state.save_mailbox(row)
        cur = os.open(maildir / "INBOX/cur", os.O_RDONLY)
        for start in range(0, MILLION, 10_000):
            rows = []
            for number in range(start, start + 10_000):
                key = _key(number)
                os.close(os.open(f"{key}:2,", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=cur))
                told = Delivered(MessageKey(key), 24, 22, number.to_bytes(32), 1, number.to_bytes(16))
                rows.append((Uid(number + 1), NO_FLAGS, 0, told))
            state.add_arriving(row.id, rows, stage=Stage.PAIRED)
        os.close(cur)
        state.commit()
        state.close()


def _key(number: int) -> str:
    return f"17{number:08d}.M{number % 1_000_000:06d}P4711Q{number}R0123abcd.mail.example.org"
