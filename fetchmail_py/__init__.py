"""fetchmail-py: mail from POP3 and IMAP servers, durably into a local Maildir."""

__version__ = "0.1.0"
