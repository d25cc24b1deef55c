"""`check`: what it shows of a certificate that is not trusted, whichever way TLS begins."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from fetchmail_py.config import Account
from fetchmail_py.errors import ExitStatus
from fetchmail_py.report import CheckLine
from fetchmail_py.sync.check import check_account
from tests.servers.base import Tls
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.pop3 import Pop3Server


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("how", ["implicit", "starttls"])
def test_the_fingerprint_of_a_certificate_that_nobody_trusts(tmp_path: Path, protocol: str, how: str) -> None:
    kind = ImapServer if protocol == "imap" else Pop3Server
    tls, lines = Tls(), list[CheckLine]()
    certificate = ssl.PEM_cert_to_DER_cert(tls.certificate.cert_chain_pems[0].bytes().decode())
    with kind(Store(), tls, implicit=how == "implicit") as server:
        account = Account("a", protocol, "127.0.0.1", server.port, how, "ann", str(tmp_path / "mail"))
        status = check_account(account, lambda: "correct horse", on_line=lines.append)
    assert status is ExitStatus.REFUSED_LOGIN
    assert [line for line in lines if hashlib.sha256(certificate).hexdigest() in line.text]
    assert not [line for line in server.log if line.startswith(("LOGIN", "AUTH", "USER"))]
