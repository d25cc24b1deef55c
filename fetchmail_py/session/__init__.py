"""One logged-in connection to a server."""
