"""POP3 commands for one message each, sent ahead of their answers as far as it is allowed (RFC 2449, 6.6), and fences between.

Answers carry neither tag nor number: a line too many or too few makes each answer pass for another command's. A fence is a
command whose answer looks like no other. When it comes where it is expected, so did all answers before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from fetchmail_py.model import MaildropEntry

WINDOW: Final = 512
"""Commands under way at once. They go out half a window at a time, some 3 KB: few system calls, and far less than what fits
into the smallest buffer between two machines, so that neither side waits for the other to read."""
WINDOW_OCTETS: Final = 8 * 1024 * 1024
"""Announced octets under way at once, but for a single larger message."""
FENCE_EVERY: Final = 32
"""Messages between two fences. A fence costs a round trip only where the server cannot pipeline."""
FENCE_OCTETS: Final = 1024 * 1024
"""Announced octets between two fences, but for a single larger message."""


class Fence:
    """Stands for the fence whose answer is the next to come."""

    __slots__ = ()


FENCE: Final = Fence()


class Window:
    """The commands under way."""

    __slots__ = (
        "_command", "_fence", "_held", "_octets", "_send", "_size", "_source", "_unproved", "_unproved_octets", "_waiting",
        "_wanted",
    )  # fmt: skip

    def __init__(
        self,
        send: Callable[[bytes, bool], None],
        command: bytes,
        entries: Iterable[MaildropEntry],
        wanted: Callable[[], bool],
        size: int,
        fence: bytes = b"",
    ) -> None:
        """`command` with %d for the number; `size` is how many may be under way; `fence` is a command line, or b"" for none.

        `send` is told whether anything is under way already.
        """
        self._send = send
        self._command = command
        self._source = iter(entries)
        self._wanted = wanted
        self._size = size
        self._fence = fence
        self._waiting: deque[MaildropEntry | Fence] = deque()
        self._octets = 0
        self._held: MaildropEntry | None = None
        """The next one, for which there was no room."""
        self._unproved = 0
        """Messages asked for since the last fence."""
        self._unproved_octets = 0

    def next(self) -> MaildropEntry | Fence | None:
        """Whose answer is the next to come; None: there is none left."""
        waiting = self._waiting
        if len(waiting) <= self._size // 2:
            self._fill()
        return waiting[0] if waiting else None

    @property
    def front(self) -> MaildropEntry | None:
        """The message whose answer was being read; None: a fence's, or nobody's."""
        front = self._waiting[0] if self._waiting else None
        return None if isinstance(front, Fence) else front

    def _fill(self) -> None:
        wanted = self._wanted()
        under_way = bool(self._waiting)
        commands = []
        while len(self._waiting) < self._size:
            if self._unproved >= FENCE_EVERY or self._unproved_octets >= FENCE_OCTETS:
                commands.append(self._put_fence())
                continue
            entry = (self._held or next(self._source, None)) if wanted else None
            if entry is None:
                if self._unproved:
                    commands.append(self._put_fence())
                break
            if self._waiting and self._octets + entry.size > WINDOW_OCTETS:
                self._held = entry
                break
            self._held = None
            self._waiting.append(entry)
            self._octets += entry.size
            if self._fence:
                self._unproved += 1
                self._unproved_octets += entry.size
            commands.append(self._command % entry.number)
        if commands:
            self._send(b"".join(commands), under_way)

    def _put_fence(self) -> bytes:
        self._waiting.append(FENCE)
        self._unproved = self._unproved_octets = 0
        return self._fence

    def answered(self) -> bool:
        """The answer has been read. Returns whether nothing is under way any more."""
        done = self._waiting.popleft()
        if not isinstance(done, Fence):
            self._octets -= done.size
        return not self._waiting
