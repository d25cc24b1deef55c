"""From an error's facts to the sentence and the remedy that a person reads."""

from __future__ import annotations

import errno

from fetchmail_py.credentials import LOGIN_OR_SOURCE
from fetchmail_py.errors import (
    AuthenticationFailed,
    CertificateError,
    ConfigError,
    ConnectionLost,
    CredentialError,
    FetchmailError,
    Interrupted,
    Locked,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
    StoreError,
    TlsError,
    WrongService,
)


def explain(
    error: FetchmailError, host: str | None = None, *, from_url: bool = False, backup: bool = False
) -> tuple[str, str | None]:
    """(what happened, what to do about it or None), each without the account's name and without a line end.

    `host` is the account's: some providers have conditions of their own for a login. `from_url`: the account is that of a URL
    on the command line, and whoever reads this has written no configuration. `backup`: its Maildir is what the command line has.
    """
    message, remedy = _explain(error, host)
    if backup and remedy is not None:
        remedy = remedy.replace("`maildir`", "DIR")
    if not from_url:
        return message, remedy
    from fetchmail_py.cli.sources import in_words_of_a_url, key_of_a_url  # noqa: PLC0415

    if isinstance(error, ConfigError) and error.key is not None:
        message = f"{key_of_a_url(error.key)}: {error.detail}"
    elif isinstance(error, CredentialError | CertificateError):
        message = in_words_of_a_url(message)
    if remedy == LOGIN_OR_SOURCE.format(account="backup"):
        return message, "give --password-command, --password-file or --password-env; on a terminal it is asked for"
    return message, None if remedy is None else in_words_of_a_url(remedy)


def _explain(error: FetchmailError, host: str | None) -> tuple[str, str | None]:
    if host is not None and isinstance(error, AuthenticationFailed) and error.status and error.hint is None:
        from fetchmail_py.providers import note_of  # noqa: PLC0415

        note = note_of(host)
        if note is not None:
            return _sentence(error), f"check `user` and the password; {note}"
    return _sentence(error), error.hint or _remedy(error)


def _sentence(error: FetchmailError) -> str:
    match error:
        case ConfigError(file=str(file), key=str(key)):
            return f"{file}: {key}: {error.detail}"
        case ConfigError(file=str(file)):
            return f"{file}: {error.detail}"
        case ConfigError(key=str(key)):
            return f"{key}: {error.detail}"
        case WrongService():
            return error.detail
        case ProtocolError() if error.data:
            return f"the server broke the protocol: {error.detail}: {error.data!r}"
        case ProtocolError():
            return f"the server broke the protocol: {error.detail}"
        case AuthenticationFailed(command="login" | "AUTHENTICATE" | "PASS" | "AUTH" | "APOP", text=str(text)) if error.status:
            return f"the server refused the login: {text}" if text else "the server refused the login"
        case Interrupted():
            return "interrupted; what had come in is stored, the next run goes on from there"
        case _:
            return f"{error.mailbox}: {error.detail}" if error.mailbox else error.detail


def _remedy(error: FetchmailError) -> str | None:
    match error:
        case AuthenticationFailed(status=""):
            # Nothing was sent (`NotOffered`): neither the user nor the password can be wrong.
            return "set `auth` to a way that the server offers; some offer one only with `tls` on, or allow none to this account"
        case AuthenticationFailed():
            return "check `user` and the password; many providers want an app password for mail programs"
        case CertificateError():
            return "check `host`; for a certificate of your own, set ca_file, or tls_fingerprint (`check` shows it)"
        case TlsError():
            return "check `host`, `port` and `tls`"
        case ServerBusy() | Locked() | ConnectionLost():
            return "try again later; nothing is lost"
        case ServerUnreachable():
            return "check `host`, `port` and the network"
        case ServerRefused() | Interrupted():
            return None
        case ProtocolError():
            return "nothing was deleted; if it comes again, please report it with this line"
        case StoreError(errno=errno.ENOSPC | errno.EDQUOT):
            return "make room; what had come in before is stored, nothing was deleted at the server"
        case StoreError(kind="state"):
            return "the next run that is no dry run moves it aside, and rebuilds it from the Maildir and the server"
        case StoreError(errno=errno.EROFS | errno.EACCES | errno.EPERM):
            return "check the permissions, and whether the disk is mounted read-only"
        case _:
            return None
