"""A server's words without the secrets that some servers repeat: one redactor for a session, for its whole life."""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from fetchmail_py.errors import FetchmailError, ProtocolError, ServerRefused
from fetchmail_py.wire import sasl

SHORT: Final = 4
"""A secret of fewer characters is hidden only where it stands as a word of its own: within words, "a" would make dots of every
sentence, and the dots would tell what it is."""
PART: Final = 8
"""So many characters in a row of a secret are hidden wherever they are: what is shown may begin or end in the middle of it."""


class Redactor:
    """Knows secrets in every form in which a server may give them back. As a context manager: cleans what is raised within."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        """In the fold of `_fold`."""
        self._parts: frozenset[str] | None = None

    def __repr__(self) -> str:
        return "<Redactor>"

    # -- what is known -----------------------------------------------------------------------------------------------

    def learn(self, secret: str) -> None:
        """A password or token, before it is sent; an empty one is none."""
        for text in _spellings(secret):
            for octets in _encodings(text):
                # A server's words are shown as UTF-8, what makes no sense as octets, which may come from such words.
                words = octets.decode("utf-8", "replace")
                self._add(words, octets.decode("latin-1"), words.encode("utf-8").decode("latin-1"))
                for encoded in _base64(octets):
                    self._add(encoded)

    def learn_response(self, response: bytes) -> None:
        """What is sent in a SASL exchange, in base64: it holds the secret, or proves it."""
        encoded = response.decode("ascii").rstrip("=")
        if len(encoded) >= PART:
            self._add(encoded)

    def _add(self, *forms: str) -> None:
        self._forms.update(_fold(form) for form in forms if form)
        self._parts = None

    # -- hiding ------------------------------------------------------------------------------------------------------

    def hide(self, text: str, mark: str = "…", edge: int = SHORT) -> str:
        """`text` without any secret. `edge`: of how many characters on a piece of a secret at either end counts as cut off."""
        if not self._forms or not text:
            return text
        whole = text.rstrip("…")
        if len(whole) < len(text):
            # Where words were cut, a piece of a secret may stand at the end.
            return self.hide(whole, mark, edge) + text[len(whole) :]
        spans = sorted(self._spans(_fold(text), edge))
        shown: list[str] = []
        at = 0
        for start, end in spans:
            if end > at:
                if start > at or not shown:
                    shown += [text[at:start], mark]
                at = end
        return "".join(shown) + text[at:] if shown else text

    def hide_octets(self, data: bytes) -> bytes:
        """The same for octets of the stream, of which there may be a piece only."""
        return self.hide(data.decode("latin-1"), "...", 2).encode("latin-1")

    def words(self, code: str | None, text: str) -> tuple[str | None, str]:
        """A response code and the text behind it, which together may be the secret that was repeated."""
        shown_code, shown = code and self.hide(code), self.hide(text)
        if shown_code:
            together = f"[{shown_code}] {shown}"
            if self.hide(together) != together:
                return None, self.hide(f"[{code}] {text}")
        return shown_code, shown

    def clean(self, error: FetchmailError) -> None:
        """Takes secrets out of what an error shows of the server's words; ours stay as they are."""
        if isinstance(error, ProtocolError):
            error.data = self.hide_octets(error.data)
        elif isinstance(error, ServerRefused):
            said = (error.status, error.code, error.text)
            shown = (self.hide(error.status), *self.words(error.code, error.text))
            if shown != said:
                error.status, error.code, error.text = shown
                error.detail = ServerRefused(error.command, error.status, error.text, code=error.code).detail
                error.args = (error.detail,)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, FetchmailError):
            self.clean(error)

    def _spans(self, text: str, edge: int) -> Iterator[tuple[int, int]]:
        if self._parts is None:
            self._parts = frozenset(form[at : at + PART] for form in self._forms for at in range(len(form) - PART + 1))
        for at in range(len(text) - PART + 1):
            if text[at : at + PART] in self._parts:
                yield at, at + PART
        for form in self._forms:
            if len(form) < SHORT:
                pattern = rf"(?<!\w){re.escape(form)}(?!\w)"
            elif len(form) < PART:
                pattern = re.escape(form)
            else:
                pattern = ""
            if pattern:
                yield from (found.span() for found in re.finditer(pattern, text))
            if len(form) >= SHORT:
                for length in range(edge, min(PART, len(form))):
                    if text.endswith(form[:length]):
                        yield len(text) - length, len(text)
                    if text.startswith(form[-length:]):
                        yield 0, length


def _fold(text: str) -> str:
    """Lower case, character by character: the length stays."""
    if text.isascii():
        return text.lower()
    return "".join(lower if len(lower := character.lower()) == 1 else character for character in text)


def _spellings(secret: str) -> set[str]:
    """As it is, without the blanks that are lost at the ends of a line, and as an IMAP quoted string (RFC 9051, 4.3)."""
    texts = {secret, secret.strip()}
    texts |= {text.replace("\\", "\\\\").replace('"', '\\"') for text in texts}
    if not secret.isascii():
        # A server that changes the case of a letter changes its octets, which no longer fold.
        texts |= {form for text in texts for form in (text.upper(), text.lower())}
    return texts - {""}


def _encodings(text: str) -> set[bytes]:
    found = {sasl.octets(text)}
    with suppress(UnicodeEncodeError):  # it cannot come back so
        found.add(text.encode("latin-1"))
    return found


def _base64(octets: bytes) -> Iterator[str]:
    """As base64, alone and within something longer: at each of the three places where it can begin there."""
    for before in range(3):
        encoded = b2a_base64(b"\0" * before + octets, newline=False).decode("ascii").rstrip("=")
        # A character that also holds bits of what stands beside the secret is not its own.
        end = len(encoded) - (1 if (before + len(octets)) % 3 else 0)
        if end - (start := (0, 2, 3)[before]) >= PART:
            yield encoded[start:end]
        if not before and len(encoded) >= SHORT:
            yield encoded
