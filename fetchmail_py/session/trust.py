"""Whose certificates are believed: the system's, those of `ca_file`, or one by its fingerprint alone."""

from __future__ import annotations

import os
import re
import ssl

from fetchmail_py.errors import ConfigError
from fetchmail_py.session.endpoint import Endpoint

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_BEGIN = b"-----BEGIN "


def context_for(endpoint: Endpoint) -> ssl.SSLContext:
    """What TLS has to check. Raises ConfigError for a file that cannot be used."""
    if endpoint.fingerprint is not None:
        # The fingerprint is the stronger check, and the only one that a self-signed certificate can pass.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        system = ssl.get_default_verify_paths()
        context = ssl.create_default_context(capath=_directory(system.cafile, system.capath))
        if endpoint.ca_file is not None:
            try:
                context.load_verify_locations(cafile=endpoint.ca_file)
            except ssl.SSLError as error:
                raise ConfigError(
                    f"{endpoint.ca_file} holds no certificates as PEM text",
                    key="ca_file",
                    hint="it must have -----BEGIN CERTIFICATE----- in it; from DER: openssl x509 -inform DER -in FILE -out NEW",
                ) from error
            except OSError as error:
                raise ConfigError(
                    f"cannot read certificates from {endpoint.ca_file}: {error.strerror or error}",
                    key="ca_file",
                    hint="correct ca_file, or leave it out where the system trusts the server's certificate",
                ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.client_cert is not None:
        try:
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password=_no_password)
        except ssl.SSLError as error:
            key = endpoint.client_key or "what follows in it"
            raise ConfigError(
                f"{endpoint.client_cert} and {key} are no certificate and its key as PEM text",
                key="client_cert",
                hint="client_cert must hold the certificate, and the key as well unless client_key names it",
            ) from error
        except OSError as error:
            names = endpoint.client_cert if endpoint.client_key is None else f"{endpoint.client_cert} or {endpoint.client_key}"
            raise ConfigError(
                f"cannot read {names}: {error.strerror or error}", key="client_cert", hint="correct client_cert, or client_key"
            ) from error
    return context


def _directory(cafile: str | None, capath: str | None) -> str | None:
    """The directory of what the system trusts, where one certificate can be looked up without reading all of them.

    OpenSSL has a file and a directory, and reads the whole file at each start: 50 ms on Debian, where the file is nothing but
    the directory's certificates one after the other. None where that is not so, and both are to be used.
    """
    if cafile is None or capath is None:
        return None
    try:
        with open(cafile, "rb") as file:
            bundle = file.read()
        with os.scandir(capath) as entries:
            found = [entry.stat() for entry in entries if _HASHED.fullmatch(entry.name)]
    except OSError:
        return None  # OpenSSL says what is wrong, or has no need of it
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in found}
    count = bundle.count(_BEGIN)
    # A line end is put behind a certificate that has none.
    same = count == len(sizes) > 0 and 0 <= len(bundle) - sum(sizes.values()) <= count
    return capath if same else None


def _no_password() -> str:
    """OpenSSL would ask on the terminal, which a cron job has not."""
    raise ConfigError("the key of the client certificate is encrypted", key="client_key", hint="decrypt it: openssl pkey")
