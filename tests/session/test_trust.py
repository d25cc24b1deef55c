"""Whom TLS believes: the system's certificates, wherever OpenSSL keeps them, are all believed and not all read."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.trust import context_for

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the hashed names")


def system(
    place: Path, monkeypatch: pytest.MonkeyPatch, directory: Sequence[trustme.CA], bundle: Sequence[trustme.CA]
) -> None:
    """Makes this a system that trusts these, as OpenSSL's directory and its file have them."""
    certificates = place / "certs"
    certificates.mkdir()
    for number, ca in enumerate(directory):
        ca.cert_pem.write_to_path(str(certificates / f"{number}.pem"))
    subprocess.run(["openssl", "rehash", str(certificates)], check=True, capture_output=True)
    file = place / "all.crt"
    file.write_bytes(b"".join(ca.cert_pem.bytes() for ca in bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def trusted(ca: trustme.CA) -> bool:
    """Whether a server with a certificate of this CA is believed."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("mail.example.org").configure_cert(server)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(up, down, server_side=True)
    here = context_for(Endpoint("mail.example.org", 993)).wrap_bio(down, up, server_hostname="mail.example.org")
    try:
        for side in (here, there, here):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError:
        return False
    return here.version() is not None


def read_at_once() -> int:
    """How many of the system's certificates are read before there is a server to judge."""
    return len(context_for(Endpoint("mail.example.org", 993)).get_ca_certs())


def test_a_directory_with_all_of_them_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other, stranger = trustme.CA(), trustme.CA(), trustme.CA()
    system(tmp_path, monkeypatch, [ours, other], [ours, other])
    assert trusted(ours)
    assert trusted(other)
    assert not trusted(stranger)
    assert read_at_once() == 0


@pytest.mark.parametrize("in_directory", [(0,), (0, 2), ()])
def test_what_only_the_file_has_is_believed_too(
    in_directory: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [trustme.CA(), trustme.CA(organization_name="another, so that its certificate is longer"), trustme.CA()]
    system(tmp_path, monkeypatch, [known[number] for number in in_directory], known[:2])
    assert [trusted(ca) for ca in known] == [True, True, 2 in in_directory]
    assert read_at_once() == 2


@pytest.mark.parametrize("gone", ["certs", "all.crt"])
def test_one_of_the_two_is_missing(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trustme.CA()
    system(tmp_path, monkeypatch, [ours], [ours])
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    assert trusted(ours)
    assert not trusted(trustme.CA())
