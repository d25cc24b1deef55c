"""Where a session puts messages: the shape of a sink, which the store fills. A session never knows a file."""

from __future__ import annotations

from typing import Protocol

from fetchmail_py.model import Delivered


class MessageWriter(Protocol):
    """One message that comes in pieces."""

    def write(self, chunk: bytes) -> None:
        """The next octets, as on the wire."""
        ...

    def finish(self) -> Delivered:
        """The message is complete."""
        ...

    def discard(self) -> None:
        """It will never be; nothing is left of it. May be called after a failure, and more than once."""
        ...


class MessageSink(Protocol):
    """Takes messages; what it has taken lies in `tmp/`, not yet durable."""

    def deliver(self, data: bytes, internaldate: int | None) -> Delivered:
        """A whole message, as on the wire. `internaldate` in POSIX seconds; None: now."""
        ...

    def start(self, internaldate: int | None) -> MessageWriter:
        """A message too large for memory."""
        ...

    def date(self, delivered: Delivered, internaldate: int | None) -> None:
        """The date of a message that became known after its body."""
        ...

    def discard(self, delivered: Delivered) -> None:
        """Takes back a message that turned out not to be wanted."""
        ...
