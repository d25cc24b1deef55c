"""SASL: the example exchanges of the RFCs, and servers that answer something else."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.errors import AuthenticationFailed, CredentialError, ProtocolError
from fetchmail_py.wire import sasl
from fetchmail_py.wire.sasl import Mechanism, mechanism

TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
RFC_TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def exchange(name: str, user: str = "user", secret: str = "pencil", nonce: str = "abc", authzid: str = "") -> Mechanism:
    return mechanism(name, user=user, secret=secret, nonce=nonce, host="server.example.com", port=143, authzid=authzid)


def answer(tried: Mechanism, challenge: str) -> str:
    """The exchange in clear, as the RFCs print it."""
    return b64decode(tried.respond(b64encode(challenge.encode()))).decode()


def initial(tried: Mechanism) -> str:
    assert tried.initial is not None
    return b64decode(tried.initial).decode()


class TestOneMessage:
    @pytest.mark.parametrize(
        ("tried", "expected"),
        [
            # RFC 4616, 4.
            (exchange("PLAIN", "tim", "tanstaaftanstaaf"), "\0tim\0tanstaaftanstaaf"),
            (exchange("PLAIN", "Kurt", "xipj3plmq", authzid="Ursel"), "Ursel\0Kurt\0xipj3plmq"),
            (exchange("PLAIN", "\xe4nn", "\udcff"), None),
            # Google's description of XOAUTH2.
            (exchange("XOAUTH2", "someuser@example.com", TOKEN), f"user=someuser@example.com\1auth=Bearer {TOKEN}\1\1"),
            # RFC 7628, 4.1; and the saslname of RFC 5801, 4.
            (
                exchange("OAUTHBEARER", "user@example.com", RFC_TOKEN),
                f"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer {RFC_TOKEN}\1\1",
            ),
            (
                exchange("OAUTHBEARER", "a=b,c", "t"),
                "n,a=a=3Db=2Cc,\1host=server.example.com\1port=143\1auth=Bearer t\1\1",
            ),
            (exchange("EXTERNAL", authzid="ann"), "ann"),
        ],
    )
    def test_initial_response(self, tried: Mechanism, expected: str | None) -> None:
        assert tried.initial is not None
        octets = b64decode(tried.initial, validate=True)
        # A password whose octets are no UTF-8 goes out as the octets it is.
        assert octets == (b"\0\xc3\xa4nn\0\xff" if expected is None else expected.encode())

    def test_an_empty_initial_response_is_an_equals_sign(self) -> None:
        assert exchange("EXTERNAL").initial == b"="

    def test_deferred_it_answers_the_first_challenge_whatever_that_says(self) -> None:
        tried = exchange("PLAIN", "tim", "tanstaaftanstaaf")
        tried.defer_initial()
        assert tried.initial is None
        assert b64decode(tried.respond(b"go ahead, this is not base64")) == b"\0tim\0tanstaaftanstaaf"
        with pytest.raises(ProtocolError, match="more than the mechanism has"):
            tried.respond(b"")

    def test_deferred_and_empty(self) -> None:
        tried = exchange("EXTERNAL")
        tried.defer_initial()
        assert tried.respond(b"") == b""


def test_login_answers_in_order_whatever_is_asked() -> None:
    tried = exchange("LOGIN", "ann", "secret")
    assert tried.initial is None
    assert [answer(tried, "Username:"), answer(tried, "whatever")] == ["ann", "secret"]
    with pytest.raises(ProtocolError):
        answer(tried, "Another one:")


class TestCramMd5:
    def test_the_exchange_of_rfc_2195(self) -> None:
        tried = exchange("CRAM-MD5", "tim", "tanstaaftanstaaf")
        assert tried.initial is None
        response = tried.respond(b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
        assert response == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
        with pytest.raises(ProtocolError, match="second challenge"):
            answer(tried, "<again>")

    def test_an_empty_challenge_would_sell_the_password(self) -> None:
        with pytest.raises(ProtocolError, match="empty"):
            answer(exchange("CRAM-MD5"), "")


SCRAM = {
    # RFC 5802, 5, and RFC 7677, 3: nonce, server-first, proof, server-final.
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize("name", SCRAM)
class TestScram:
    def test_the_exchange_of_the_rfc(self, name: str) -> None:
        nonce, server_first, client_final, server_final = SCRAM[name]
        tried = exchange(name, nonce=nonce)
        assert initial(tried) == f"n,,n=user,r={nonce}"
        assert answer(tried, server_first) == client_final
        with pytest.raises(ProtocolError, match="without proving"):
            tried.finish()
        assert answer(tried, server_final) == ""
        tried.finish()

    def test_a_server_that_does_not_know_the_password(self, name: str) -> None:
        nonce, server_first, _, server_final = SCRAM[name]
        tried = exchange(name, secret="other", nonce=nonce)
        answer(tried, server_first)
        with pytest.raises(ProtocolError):
            answer(tried, server_final)
        with pytest.raises(ProtocolError, match="without proving"):
            tried.finish()

    @pytest.mark.parametrize("count", ["1", "4095", "10000001", "999999999999", "", "-4096", "4096.0", "\u0664096"])
    def test_iterations_out_of_bounds_are_refused_before_any_work(self, name: str, count: str) -> None:
        nonce, server_first, _, _ = SCRAM[name]
        with pytest.raises(ProtocolError, match="iterations"):
            answer(exchange(name, nonce=nonce), server_first.replace("i=4096", f"i={count}"))

    @pytest.mark.parametrize(
        "challenge",
        ["", "hello", "r=other,s=QSXCR+Q6,i=4096", "s=QSXCR+Q6,i=4096", "r={nonce}x,i=4096", "r={nonce}x,s=&,i=4096"],
    )
    def test_a_first_message_that_makes_no_sense(self, name: str, challenge: str) -> None:
        nonce = SCRAM[name][0]
        with pytest.raises(ProtocolError):
            answer(exchange(name, nonce=nonce), challenge.replace("{nonce}", nonce))

    def test_a_refusal_inside_the_exchange_is_a_failed_login(self, name: str) -> None:
        nonce, server_first, _, _ = SCRAM[name]
        tried = exchange(name, nonce=nonce)
        answer(tried, server_first)
        with pytest.raises(AuthenticationFailed, match="invalid-proof"):
            answer(tried, "e=invalid-proof")

    def test_no_more_after_the_end(self, name: str) -> None:
        nonce, server_first, _, server_final = SCRAM[name]
        tried = exchange(name, nonce=nonce)
        answer(tried, server_first)
        answer(tried, server_final)
        with pytest.raises(ProtocolError, match="more than the mechanism has"):
            answer(tried, "")

    def test_a_password_that_saslprep_forbids(self, name: str) -> None:
        with pytest.raises(CredentialError) as caught:
            exchange(name, secret="a\x07b")
        assert "\x07" not in str(caught.value)


@pytest.mark.parametrize(("name", "acknowledge"), [("XOAUTH2", ""), ("OAUTHBEARER", "\1")])
def test_a_refused_token_is_acknowledged_and_explained(name: str, acknowledge: str) -> None:
    tried = exchange(name, secret=TOKEN)
    assert answer(tried, '{"status":"401","schemes":"bearer","echo":"' + TOKEN + '"}') == acknowledge
    assert tried.error == '{"status":"401","schemes":"bearer","echo":"…"}'
    with pytest.raises(ProtocolError, match="refused the token and then accepted"):
        tried.finish()
    with pytest.raises(ProtocolError):
        answer(tried, "and more")


@pytest.mark.parametrize("name", sorted(sasl.MECHANISMS))
class TestEveryMechanism:
    @pytest.mark.parametrize("challenge", [b"not base64!", b"YQ", b"YQ==YQ==", b"=", b"\xff", b"QQ==" * 20_000])
    def test_bad_base64(self, name: str, challenge: bytes) -> None:
        with pytest.raises(ProtocolError) as caught:
            exchange(name).respond(challenge)
        assert caught.value.data == challenge[:200]

    def test_it_comes_to_an_end(self, name: str) -> None:
        tried = exchange(name)

        def talk() -> None:
            for _ in range(sasl.MAX_ROUNDS + 1):
                answer(tried, "x")

        with pytest.raises(ProtocolError):
            talk()

    @pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b"])
    def test_no_control_characters(self, name: str, bad: str) -> None:
        for user, secret in ((bad, "x"), ("x", bad)):
            with pytest.raises(CredentialError) as caught:
                exchange(name, user, secret)
            assert bad not in str(caught.value)

    def test_nothing_is_shown(self, name: str) -> None:
        assert "pencil" not in repr(exchange(name))


@pytest.mark.parametrize("token", ["", "a b", "a\1b", "\xe9", "a\x7f"])
def test_no_token_looks_like_this(token: str) -> None:
    for name in ("XOAUTH2", "OAUTHBEARER"):
        with pytest.raises(CredentialError, match="access token"):
            exchange(name, secret=token)


def test_a_user_cannot_forge_a_field() -> None:
    with pytest.raises(CredentialError):
        exchange("XOAUTH2", user="ann\1auth=Bearer other", secret="t")


def test_no_such_mechanism() -> None:
    with pytest.raises(ValueError, match="DIGEST-MD5"):
        exchange("DIGEST-MD5")


CHALLENGES = st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode))


@given(st.sampled_from(sorted(sasl.MECHANISMS)), st.lists(CHALLENGES, max_size=4))
def test_any_challenges_give_base64_or_our_errors(name: str, challenges: list[bytes]) -> None:
    tried = exchange(name)
    try:
        for challenge in challenges:
            for data in (challenge, b64encode(challenge)):
                b64decode(tried.respond(data), validate=True)
        tried.finish()
    except (ProtocolError, AuthenticationFailed, CredentialError):
        pass
