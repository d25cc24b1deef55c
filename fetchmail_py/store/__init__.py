"""This machine: the durable Maildir and the state database."""
