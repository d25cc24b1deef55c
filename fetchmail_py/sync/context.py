"""What one run of one account works with, in one value: whoever does the account's work is handed it whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fetchmail_py.session.transport import Transport

if TYPE_CHECKING:
    from fetchmail_py.report import Event, Report
    from fetchmail_py.session.endpoint import Endpoint
    from fetchmail_py.sync.home import Home
    from fetchmail_py.sync.options import Options, StopFlag


class RunContext(NamedTuple):
    """One run of one account: its place, what is asked of it, whom it tells, and how it gets a connection."""

    home: Home
    """The account's place on this machine, open, and with it the account."""
    secret: Callable[[], str]
    """The password or token, asked for when it is needed."""
    options: Options
    report: Report
    """What the run has done so far; filled in as it goes."""
    on_event: Callable[[Event], None]
    """Told of what happens; called from the connections' threads too."""
    note: Callable[[str], None]
    """Keeps a notice for the report and tells it, each once."""
    stop: StopFlag
    connect: Callable[[Endpoint], Transport] = Transport.connect
    """Makes a connection; the first one may be under way already."""
