"""The names of keyword letters: the file `dovecot-keywords` in a mailbox's directory, as Dovecot has it.

One line for each letter: its number from 0 for `a` to 25 for `z`, a blank, the keyword. A letter keeps its keyword for ever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fetchmail_py.errors import StoreError
from fetchmail_py.store import durable

FILE_NAME = "dovecot-keywords"
LETTERS = 26
MAX_NAME = 255
"""Characters of a name: a server may send any number, and this file is read as a whole by every mail reader."""


class KeywordTable:
    """The keywords of one mailbox."""

    def __init__(self, path: str, names: dict[int, str], rest: list[str]) -> None:
        self._path = path
        self._names = names
        self._rest = rest
        """Lines we cannot read, kept as they are."""
        self._numbers = {name.lower(): number for number, name in names.items()}
        self._changed = False

    @classmethod
    def load(cls, directory: str) -> KeywordTable:
        """The table of a mailbox's directory; empty where there is no file."""
        path = f"{directory}/{FILE_NAME}"
        names: dict[int, str] = {}
        rest: list[str] = []
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                for line in file.read(1_000_000).split("\n"):
                    number, _, name = line.partition(" ")
                    if number.isascii() and number.isdigit() and int(number) < LETTERS and name and int(number) not in names:
                        names[int(number)] = name
                    elif line:
                        rest.append(line)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise StoreError.from_os_error(error, "reading the keywords", path) from error
        return cls(path, names, rest)

    @property
    def names(self) -> dict[int, str]:
        """The keyword of each letter's number."""
        return dict(self._names)

    def recall(self, names: Mapping[int, str]) -> None:
        """What the letters were when last seen: the file may have been lost, or be an older one, and files still bear them.

        Where it says something else now, that counts: it is what other programs go by.
        """
        for number, name in names.items():
            if number not in self._names and name.lower() not in self._numbers:
                self._names[number] = name
                self._numbers[name.lower()] = number
                self._changed = True

    def letter_for(self, keyword: str) -> str | None:
        """The letter of a keyword, a new one if it has none; None where all are taken, or a line cannot hold the name.

        Upper and lower case are the same (RFC 9051, 2.3.2).
        """
        number = self._numbers.get(keyword.lower())
        if number is None:
            free = next((number for number in range(LETTERS) if number not in self._names), None)
            if free is None or not 0 < len(keyword) <= MAX_NAME or not keyword.isascii() or not keyword.isprintable():
                return None
            if " " in keyword:
                return None
            number = free
            self._names[number] = keyword
            self._numbers[keyword.lower()] = number
            self._changed = True
        return chr(ord("a") + number)

    def find(self, keyword: str) -> str | None:
        """The letter that a keyword has already; None where it has none."""
        number = self._numbers.get(keyword.lower())
        return None if number is None else chr(ord("a") + number)

    def name_of(self, letter: str) -> str | None:
        """The keyword of a letter."""
        return self._names.get(ord(letter) - ord("a")) if len(letter) == 1 else None

    def save(self) -> bool:
        """Writes the file, durably, if a keyword is new; returns whether one is."""
        if not self._changed:
            return False
        lines = [f"{number} {name}" for number, name in sorted(self._names.items())] + self._rest
        text = "".join(line + "\n" for line in lines)
        if os.path.islink(self._path):
            raise StoreError(f"not a file of its own: {self._path}", path=self._path)
        durable.write_small(self._path, text.encode("utf-8", "surrogateescape"))
        self._changed = False
        return True
