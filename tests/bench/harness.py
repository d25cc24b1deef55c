"""One benchmark at a time: the programs, what they cost, and the one-way parts."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.live.dovecot import Dovecot, Mail

WORDS = "the of mail people report meeting lunch server backup figures attached regards question answer list".split()  # noqa: SIM905
BIG = 300_000_000
MEMORY = Path("/dev/shm")
"""Where the server keeps its mail: its disk is not what is measured, and what it deletes does not slow down ours."""
LAUNCHER = """
import os, sys, time
started = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)
"""


class Cost(NamedTuple):
    """What one run of one program took."""

    seconds: float
    cpu: float
    megabytes: float
    """Peak resident memory."""


def letters(count: int, low: int = 2000, high: int = 8000) -> Iterator[Mail]:
    """Mails of so many octets, the same ones every time."""
    chance = random.Random(1)
    for number in range(count):
        size = chance.randint(low, high)
        head = (
            f"Received: from a.example by mx.example.org with ESMTPS id {number:x};\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
            f"From: Person {number % 97} <p{number % 97}@example.com>\r\nTo: ann@example.org\r\nSubject: message {number}\r\n"
            f"Date: Tue, 24 Nov 2026 10:{number % 60:02d}:00 +0000\r\nMessage-ID: <{number}."
            f"{chance.getrandbits(64)}@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
        )
        line = " ".join(chance.choice(WORDS) for _ in range(11)) + "\r\n"
        body = "".join(f"{n} {line}" for n in range((size - len(head)) // (len(line) + 3) + 1))
        yield Mail((head + body).encode(), date=1_700_000_000 + number)


class Bench:
    """A server, and the programs that fetch from it."""

    def __init__(self, root: Path, server: Dovecot, runs: int, program: Path) -> None:
        self.root = root
        self.program = str(program)
        """The installed command."""
        self.server = server
        self.runs = runs
        self._places = 0
        self._octets = 0
        self.octets: Callable[[], int] = lambda: 0
        """Octets through the proxy that is open, both ways."""

    def place(self) -> Path:
        """A new directory; what was there before stays."""
        self._places += 1
        path = self.root / f"{self._places}"
        path.mkdir()
        return path

    def run(self, command: list[str], environment: Mapping[str, str]) -> Cost:
        """Runs a program that must succeed."""
        subprocess.run(["sync"], check=True)
        # A process that grew before it became the program would count as the program's memory: a small one starts it.
        clean = {key: value for key, value in os.environ.items() if key not in {"SSL_CERT_FILE", "SSL_CERT_DIR"}}
        launched = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
            env=clean | dict(environment),
            stdout=subprocess.PIPE,
            check=True,
        )
        status, seconds, cpu, memory = launched.stdout.decode().split()[-4:]
        if int(status):
            raise SystemExit(f"{command} ended with {status}")
        return Cost(float(seconds), float(cpu), float(memory))

    # -- the programs ------------------------------------------------------------------------------------------------

    def ours(
        self, protocol: str, user: str, place: Path, port: int | None = None, *, durable: bool = True, extra: str = ""
    ) -> Cost:
        """This program."""
        own = self.server.imaps_port if protocol == "imap" else self.server.pop3s_port
        config = place / "config.toml"
        mode = 'mode = "backup"' if protocol == "imap" else ""
        config.write_text(
            f'[accounts.a]\nprotocol = "{protocol}"\nhost = "localhost"\nport = {port or own}\nuser = "{user}"\n{mode}\n'
            f'ca_file = "{self.server.ca_file}"\npassword_env = "BENCH_PASSWORD"\nmaildir = "{place}/mail"\n{extra}\n'
        )
        program = [self.program]
        if not durable:
            program = [sys.executable, "-m", "tests.bench.undurable"]
        environment = {"BENCH_PASSWORD": self.server.password, "XDG_STATE_HOME": str(place / "state")}
        return self.run([*program, "--config", str(config), "sync"], environment)

    def mbsync(self, user: str, place: Path, port: int | None = None) -> Cost:
        """mbsync with its defaults."""
        config = place / "mbsyncrc"
        (place / "mb").mkdir(exist_ok=True)
        config.write_text(
            f"IMAPAccount a\nHost localhost\nPort {port or self.server.imaps_port}\nUser {user}\n"
            f'Pass "{self.server.password}"\nSSLType IMAPS\nCertificateFile {self.server.ca_file}\n\n'
            f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {place}/mb/\nInbox {place}/mb/INBOX\nSubFolders Verbatim\n\n"
            "Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nSyncState *\n"
        )
        return self.run(["mbsync", "-q", "-c", str(config), "-a"], {"HOME": str(place)})

    def mpop(self, user: str, place: Path, port: int | None = None) -> Cost:
        """mpop with its defaults, which delete what was delivered."""
        for name in ("cur", "new", "tmp"):
            (place / "mp" / name).mkdir(parents=True, exist_ok=True)
        config = place / "mpoprc"
        config.write_text(
            f"account default\nhost localhost\nport {port or self.server.pop3s_port}\nuser {user}\ntls on\ntls_starttls off\n"
            f"tls_trust_file {self.server.ca_file}\npassword {self.server.password}\nkeep off\n"
            f"uidls_file {place}/uidls\ndelivery maildir {place}/mp\n"
        )
        config.chmod(0o600)
        return self.run(["mpop", "-q", "-C", str(config)], {"HOME": str(place)})

    # -- helpers -----------------------------------------------------------------------------------------------------

    def users(self, prefix: str, count: int) -> list[str]:
        """Copies of the user "pop", one for each run that empties a maildrop."""
        names = [f"{prefix}{number}" for number in range(count)]
        for name in names:
            subprocess.run(["cp", "-a", f"{self.server.home('pop')}/.", str(self.server.home(name))], check=True)
        return names

    @contextmanager
    def far(
        self, port: int, milliseconds: float = 50, megabits: float | None = None
    ) -> Iterator[tuple[int, Callable[[], int]]]:
        """A proxy in front of a port that adds to the round trip: (its port, how many the last connection took)."""
        command = [sys.executable, "-m", "tests.bench.proxy", str(port), str(milliseconds), str(megabits or 0)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdin is not None
            assert proxy.stdout is not None

            def turns() -> int:
                assert proxy.stdin is not None
                assert proxy.stdout is not None
                proxy.stdin.write("\n")
                proxy.stdin.flush()
                count, total = proxy.stdout.readline().split()
                self._octets = int(total)
                return int(count)

            def octets() -> int:
                turns()
                return self._octets

            self.octets = octets
            yield int(proxy.stdout.readline()), turns
            proxy.stdin.close()

    def tell(self, what: str, costs: Mapping[str, list[Cost]], against: str, goal: str) -> None:
        """One result: medians, and how many times as long as ours each took."""
        print(f"\n{what}   (goal: {goal})")
        ours = statistics.median(cost.seconds for cost in costs["fetchmail-py"])
        for name, found in costs.items():
            seconds = [cost.seconds for cost in found]
            cpu = statistics.median(cost.cpu for cost in found)
            memory = max(cost.megabytes for cost in found)
            print(
                f"  {name:<28} {statistics.median(seconds):7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})  "
                f"CPU {cpu:6.2f} s  {memory:5.0f} MB  {statistics.median(seconds) / ours:5.2f}"
            )
        if against in costs:
            theirs = statistics.median(cost.seconds for cost in costs[against])
            print(f"  → fetchmail-py takes {ours / theirs:.2f} of {against}'s time: {theirs / ours:.2f} times as fast", flush=True)

    # -- what is measured --------------------------------------------------------------------------------------------

    def imap(self) -> None:
        """A first download of 10,000 mails."""
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mbsync": [], "fetchmail-py, not durable": []}
        for _ in range(self.runs):
            costs["mbsync"].append(self.mbsync("imap", self.place()))
            costs["fetchmail-py"].append(self.ours("imap", "imap", self.place()))
            costs["fetchmail-py, not durable"].append(self.ours("imap", "imap", self.place(), durable=False))
        self.tell("IMAP, first download of 10,000 mails", costs, "mbsync", "3 times as fast; durability at most doubles")

    def pop3(self) -> None:
        """Download and delete 10,000 mails."""
        users = iter(self.users("pop-", 3 * self.runs))
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mpop": [], "fetchmail-py, not durable": []}
        for _ in range(self.runs):
            costs["mpop"].append(self.mpop(next(users), self.place()))
            costs["fetchmail-py"].append(self.ours("pop3", next(users), self.place()))
            costs["fetchmail-py, not durable"].append(self.ours("pop3", next(users), self.place(), durable=False))
        self.tell("POP3, 10,000 mails downloaded and deleted", costs, "mpop", "3 times as fast; durability at most doubles")

    def far_imap(self) -> None:
        """2,000 mails over 50 ms of added round trip."""
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mbsync": [], "fetchmail-py, compress": []}
        with self.far(self.server.imaps_port) as (port, turns):
            for _ in range(self.runs):
                costs["mbsync"].append(self.mbsync("far", self.place(), port))
                costs["fetchmail-py"].append(self.ours("imap", "far", self.place(), port))
                print(f"  round trips of the last connection: {turns()}")
                costs["fetchmail-py, compress"].append(
                    self.ours("imap", "far", self.place(), port, extra="compress = true")
                )
        self.tell("IMAP, 2,000 mails over 50 ms of added round trip", costs, "mbsync", "0.6 of mbsync's time")

    def far_pop3(self) -> None:
        """1,000 mails over 50 ms of added round trip."""
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mpop": []}
        with self.far(self.server.pop3s_port) as (port, _):
            for number in range(self.runs):
                for name, program in (("mpop", self.mpop), ("fetchmail-py", self.ours_pop3)):
                    user = f"farpop-{name}-{number}"
                    self.server.deliver(user, "INBOX", letters(1000))
                    costs[name].append(program(user, self.place(), port))
        self.tell("POP3, 1,000 mails over 50 ms of added round trip", costs, "mpop", "faster than mpop")

    def ours_pop3(self, user: str, place: Path, port: int | None = None) -> Cost:
        """This program, as `mpop` is called."""
        return self.ours("pop3", user, place, port)

    def big(self) -> None:
        """One message of 300 MB."""
        line = b"x" * 75 + b"\r\n"
        data = b"Subject: big\r\nFrom: a@example.com\r\nMessage-ID: <big@example.com>\r\n\r\n" + line * (BIG // len(line))
        self.server.deliver("big", "INBOX", [data])
        for number in range(2 * self.runs):
            self.server.deliver(f"bigpop-{number}", "INBOX", [data])
        del data
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mbsync": []}
        for _ in range(self.runs):
            costs["mbsync"].append(self.mbsync("big", self.place()))
            costs["fetchmail-py"].append(self.ours("imap", "big", self.place()))
        self.tell("IMAP, one message of 300 MB", costs, "mbsync", "under 80 MB of memory, as fast as the fastest")
        costs = {"fetchmail-py": [], "mpop": []}
        for number in range(self.runs):
            costs["mpop"].append(self.mpop(f"bigpop-{2 * number}", self.place()))
            costs["fetchmail-py"].append(self.ours("pop3", f"bigpop-{2 * number + 1}", self.place()))
        self.tell("POP3, one message of 300 MB", costs, "mpop", "under 80 MB of memory, as fast as the fastest")

    def idle(self) -> None:
        """Nothing new, on 200 mailboxes."""
        theirs, ours = self.place(), self.place()
        for _ in range(3):
            self.mbsync("many", theirs)
            self.ours("imap", "many", ours)
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "mbsync": []}
        for _ in range(self.runs * 2):
            costs["mbsync"].append(self.mbsync("many", theirs))
            costs["fetchmail-py"].append(self.ours("imap", "many", ours))
        self.tell("Nothing new, 200 mailboxes", costs, "mbsync", "no slower than mbsync, at most 8 round trips")
        with self.far(self.server.imaps_port, 0) as (port, turns):
            self.ours("imap", "many", ours, port)
            print(f"  round trips, the connection included: {turns()}")

    def idle_large(self) -> None:
        """Nothing new, with 100,000 messages and with none."""
        large, empty = self.place(), self.place()
        for _ in range(3):
            self.ours("imap", "large", large)
            self.ours("imap", "empty", empty)
        costs: dict[str, list[Cost]] = {"fetchmail-py": [], "fetchmail-py, empty account": []}
        for _ in range(self.runs * 2):
            costs["fetchmail-py"].append(self.ours("imap", "large", large))
            costs["fetchmail-py, empty account"].append(self.ours("imap", "empty", empty))
        self.tell("Nothing new, 100,000 messages", costs, "", "CPU within 1.3 times that of an empty account")
        cpu = [statistics.median(cost.cpu for cost in found) for found in costs.values()]
        print(f"  → {cpu[0] / cpu[1]:.2f} times the CPU of an empty account", flush=True)
