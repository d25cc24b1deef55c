"""`python -m fetchmail_py`, and the installed command."""

from __future__ import annotations

from fetchmail_py.cli.app import main

if __name__ == "__main__":
    main()
