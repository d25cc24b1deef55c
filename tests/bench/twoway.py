"""The two-way mode beside mbsync: each program has a user of its own at the server, with the same mail, and a Maildir in step."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.bench.harness import Bench, Cost, letters
from tests.live.dovecot import Mail

PROGRAMS = ("mbsync", "fetchmail-py")
LARGE = 100_000
"""Messages of the large mailbox."""


class TwoWay(Bench):
    """Every part prepares both programs alike, and times one run of each after the same change."""

    def ours_both(self, user: str, place: Path, port: int | None = None) -> Cost:
        """This program in the two-way mode."""
        config = place / "config.toml"
        config.write_text(
            f'[accounts.a]\nhost = "localhost"\nport = {port or self.server.imaps_port}\nuser = "{user}"\nmax_delete = "100%"\n'
            f'ca_file = "{self.server.ca_file}"\npassword_env = "BENCH_PASSWORD"\nmaildir = "{place}/mail"\n'
        )
        environment = {"BENCH_PASSWORD": self.server.password, "XDG_STATE_HOME": str(place / "state")}
        return self.run([self.program, "--config", str(config), "sync"], environment)

    def mbsync_both(self, user: str, place: Path, port: int | None = None) -> Cost:
        """mbsync both ways with its defaults."""
        config = place / "mbsyncrc"
        (place / "mail").mkdir(exist_ok=True)
        config.write_text(
            f"IMAPAccount a\nHost localhost\nPort {port or self.server.imaps_port}\nUser {user}\n"
            f'Pass "{self.server.password}"\nSSLType IMAPS\nCertificateFile {self.server.ca_file}\n\n'
            f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {place}/mail/\nInbox {place}/mail/INBOX\nSubFolders Verbatim\n\n"
            "Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSync All\nSyncState *\n"
        )
        return self.run(["mbsync", "-q", "-c", str(config), "-a"], {"HOME": str(place)})

    def of(self, name: str) -> Callable[[str, Path, int | None], Cost]:
        """The program's run."""
        return self.mbsync_both if name == "mbsync" else self.ours_both

    def user_of(self, name: str, like: str, number: int = 0) -> str:
        """A user with the mail of another."""
        user = f"two-{'mbsync' if name == 'mbsync' else 'ours'}-{number}"
        shutil.rmtree(self.server.home(user), ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.server.home(like)), str(self.server.home(user))], check=True)
        return user

    def seed_mbsync(self, user: str, place: Path) -> None:
        """The Maildir and the state as mbsync leaves them: fetching 100,000 messages one by one takes it, and Dovecot, hours."""
        with self.server.imap(user) as client:
            client.select("INBOX", readonly=True)
            validity = int(client.response("UIDVALIDITY")[1][0] or 0)
        inbox = place / "mail/INBOX"
        for name in ("cur", "new", "tmp"):
            (inbox / name).mkdir(parents=True)
        for uid, mail in enumerate(letters(LARGE, 600, 900), start=1):
            name = f"{1_700_000_000 + uid}.1_{uid}.bench,U={uid}:2,"
            (inbox / "cur" / name).write_bytes(mail.data.replace(b"\r\n", b"\n"))
        (inbox / ".uidvalidity").write_text(f"{validity}\n{LARGE}\n")
        head = f"FarUidValidity {validity}\nNearUidValidity {validity}\nMaxPulledUid {LARGE}\nMaxPushedUid {LARGE}\n\n"
        (inbox / ".mbsyncstate").write_text(head + "".join(f"{uid} {uid} \n" for uid in range(1, LARGE + 1)))

    def in_step(self, like: str) -> dict[str, tuple[str, Path]]:
        """Both programs with a user and a Maildir that are in step, and have seen that they are."""
        found = {}
        for name in PROGRAMS:
            user, place = self.user_of(name, like), self.place()
            if name == "mbsync" and like == "large":
                self.seed_mbsync(user, place)
            for _ in range(3):
                self.of(name)(user, place, None)
            found[name] = (user, place)
        return found

    def compared(
        self,
        what: str,
        goal: str,
        like: str,
        change: Callable[[str, str, Path, int], None],
        *,
        far: float | None = None,
        bandwidth: float | None = None,
        runs: int | None = None,
    ) -> None:
        """Both programs after the same change, in turn; `change` gets the program, its user, its place and the run's number."""
        pairs = self.in_step(like)
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mbsync": []}
        octets: dict[str, list[int]] = {name: [] for name in PROGRAMS}
        with self.far(self.server.imaps_port, far or 0, bandwidth) as (port, _):
            for number in range(runs or self.runs):
                for name, (user, place) in pairs.items():
                    change(name, user, place, number)
                    before = self.octets()
                    direct = far is None and bandwidth is None and number % 2 == 0
                    cost = self.of(name)(user, place, None if direct else port)
                    if direct or far is not None or bandwidth is not None:
                        costs[name].append(cost)
                    if not direct:
                        octets[name].append(self.octets() - before)
                    # What was done at the server is seen there in the next run: not part of the next change's cost.
                    self.of(name)(user, place, None)
        self.tell(what, costs, "mbsync", goal)
        sums = {name: statistics.median(found) for name, found in octets.items() if found}
        if len(sums) == len(PROGRAMS):
            share = sums["fetchmail-py"] / sums["mbsync"]
            print(f"  → octets on the wire: {sums['fetchmail-py']:.0f} of {sums['mbsync']:.0f}: {100 * share:.1f} %", flush=True)

    # -- the parts ---------------------------------------------------------------------------------------------------

    def two_idle(self) -> None:
        """Nothing new in a large mailbox."""
        self.server.deliver("large", "INBOX", letters(LARGE, 600, 900))
        self.server.warm("large", "INBOX")
        self.compared(f"Two-way, nothing new in {LARGE:,} messages", "no slower, 3 % of the octets", "large", _nothing, runs=6)

    def two_boxes(self) -> None:
        """Nothing new in 200 mailboxes, near and far."""
        for number in range(199):
            self.server.deliver("many", f"box/{number // 20}/{number}", letters(20))
        self.server.deliver("many", "INBOX", letters(20))
        self.compared("Two-way, nothing new in 200 mailboxes", "no slower", "many", _nothing, runs=6)
        self.compared("the same over 50 ms", "0.05 of mbsync's time", "many", _nothing, far=50, runs=2)

    def two_changes(self) -> None:
        """100 new messages and 500 changed flags at the server, in a large mailbox."""
        if not self.server.home("large").joinpath("Maildir").exists():
            self.server.deliver("large", "INBOX", letters(LARGE, 600, 900))
            self.server.warm("large", "INBOX")

        def change(name: str, user: str, place: Path, number: int) -> None:
            del name, place
            fresh = [Mail(mail.data.replace(b"Message-ID: <", b"Message-ID: <%d." % number)) for mail in letters(100)]
            self.server.deliver(user, "INBOX", fresh)
            with self.server.imap(user) as client:
                client.select("INBOX")
                first = 500 * (number + 1)
                client.uid("STORE", f"{first}:{first + 499}", "+FLAGS.SILENT", "(\\Flagged)")

        goal = "no slower"
        self.compared(f"Two-way, 100 new and 500 flags at the server in {LARGE:,}", goal, "large", change, runs=2 * self.runs)
        self.compared("the same over 50 ms and 10 Mbit/s", "0.5", "large", change, far=50, bandwidth=10, runs=3)

    def two_flags(self) -> None:
        """1,000 flags changed here, in 10,000 messages."""
        self._ten_thousand()

        def change(name: str, user: str, place: Path, number: int) -> None:
            del name, user
            cur, new = place / "mail/INBOX/cur", place / "mail/INBOX/new"
            paths = sorted(path for path in (*cur.iterdir(), *new.iterdir()))
            for path in paths[1000 * number % 9000 :][:1000]:
                base, _, letters_ = path.name.partition(":2,")
                flags = set(letters_) ^ {"F"}
                path.rename(cur / f"{base}:2,{''.join(sorted(flags))}")

        self.compared("Two-way, 1,000 flags changed here in 10,000", "0.5", "imap", change, runs=2 * self.runs)

    def two_moves(self) -> None:
        """1,000 messages moved here to another mailbox, in 10,000."""
        self._ten_thousand()
        self.server.deliver("imap", "Archive", letters(10))

        def change(name: str, user: str, place: Path, number: int) -> None:
            del user, number
            paths = sorted((*(place / "mail/INBOX/cur").iterdir(), *(place / "mail/INBOX/new").iterdir()))[:1000]
            for path in paths:
                base, _, letters_ = path.name.partition(":2,")
                if name == "mbsync":
                    base = base.partition(",U=")[0]  # as its manual asks
                path.rename(place / f"mail/Archive/cur/{base}:2,{letters_}")

        goal = "0.35, 2 % of the octets"
        self.compared("Two-way, 1,000 moved here", goal, "imap", change, runs=min(8, 2 * self.runs))

    def two_upload(self) -> None:
        """2,000 new messages here."""
        self.server.deliver("empty", "INBOX", letters(1))

        def change(name: str, user: str, place: Path, number: int) -> None:
            del name, user
            for count, mail in enumerate(letters(2000)):
                data = mail.data.replace(b"\r\n", b"\n").replace(b"Message-ID: <", b"Message-ID: <%d." % number)
                (place / f"mail/INBOX/cur/17{number:04d}{count:06d}.bench.host:2,S").write_bytes(data)

        self.compared("Two-way, 2,000 uploaded", "0.5", "empty", change, runs=2 * self.runs)
        self.compared("the same over 50 ms", "0.6", "empty", change, far=50, runs=3)

    def _ten_thousand(self) -> None:
        if not self.server.home("imap").joinpath("Maildir").exists():
            self.server.deliver("imap", "INBOX", letters(10_000))
            self.server.warm("imap", "INBOX")


def _nothing(name: str, user: str, place: Path, number: int) -> None:
    """No change."""
    del name, user, place, number


