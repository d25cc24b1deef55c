"""Live tests: the installed command (from the wheel, where `make test` runs them) against a private Dovecot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.dovecot import Dovecot, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here is a live test; without a server they are skipped, loudly, or fail with CI=true."""
    problem = missing()
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(240))
            if problem is not None and os.environ.get("CI") != "true":
                item.add_marker(pytest.mark.skip(reason=problem))


@dataclass
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The only object on standard output."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


@dataclass
class Shell:
    """A user at the command line, with a home of their own."""

    root: Path
    server: Dovecot

    def command(self, *words: str) -> list[str]:
        """The installed command, else the checkout's."""
        installed = os.environ.get("FETCHMAIL_PY_COMMAND")
        return [*([installed] if installed else [sys.executable, "-m", "fetchmail_py"]), *words]

    @property
    def environment(self) -> dict[str, str]:
        """Nothing but what a cron job has."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "MAIL_PASSWORD": self.server.password,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }

    def run(self, *words: str, **environment: str) -> Result:
        """Runs a command to its end, with pipes for a terminal."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment | environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert self.server.password not in done.stdout + done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def configure(self, text: str) -> None:
        """Writes the configuration; HOST, PORTS and CA are filled in."""
        file = self.root / ".config/fetchmail-py/config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        head = f'[defaults]\nhost = "localhost"\nca_file = "{self.server.ca_file}"\npassword_env = "MAIL_PASSWORD"\n'
        for name, port in self.server.ports.items():
            text = text.replace(f"{name.upper()}_PORT", str(port))
        file.write_text(head + text, encoding="utf-8")


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """One server for a file's tests; each test takes a user of its own."""
    with Dovecot(users=[f"user{number}" for number in range(40)]) as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, dovecot: Dovecot) -> Shell:
    """A user's shell."""
    return Shell(tmp_path, dovecot)
