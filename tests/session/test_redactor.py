"""Secrets that a server repeats: in which forms they are found, and what must not be taken for one."""

from __future__ import annotations

import base64

import pytest

from fetchmail_py.errors import SAID_MAX, AuthenticationFailed, ProtocolError, cut
from fetchmail_py.session.redactor import Redactor

TOKEN = "ya29." + "".join(chr(97 + n * 7 % 26) + str(n) for n in range(300))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.learn(secret)
    return redactor


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("hunter2", "PASS hunter2"),
        ("hunter2", "PASS HUNTER2"),
        ("hunter2", "PASS hunt"),  # cut by the server
        ("hunter2", b64(b"hunter2")),
        ("hunter2", b64(b"hunter2").lower()),
        ('hunt"er\\2', 'LOGIN ann "hunt\\"er\\\\2"'),
        ('hunt"er\\2', 'LOGIN ann hunt"er\\2'),
        (" hunter2 ", "PASS  hunter2"),
        ("p\xe4ssw\xf6rter", b"PASS p\xe4ssw\xf6rter".decode("utf-8", "replace")),
        ("p\xe4ssw\xf6rter", b"PASS p\xe4ssw\xf6rter".decode("latin-1")),
        ("p\xe4ssw\xf6rter", "PASS P\xc4SSW\xd6RTER"),
        ("a", "PASS a"),
        ("ab", "PASS ab, again: AB"),
    ],
)
def test_forms(secret: str, said: str) -> None:
    shown = knowing(secret).hide(said)
    assert shown.replace("PASS", "").replace("LOGIN ann", "").strip(' …",:=') in {"", "again"}


@pytest.mark.parametrize("user", ["a", "an", "ann", "anna"])
def test_base64_of_what_holds_it(user: str) -> None:
    """At each of the three places where it can begin within three octets."""
    secret = "correct horse battery"
    for around in (f"\0{user}\0{secret}", f"user={user}\x01auth=Bearer {secret}\x01\x01"):
        whole = b64(around.encode())
        begin = around.index(secret) * 4 // 3
        shown = knowing(secret).hide(f"AUTH {whole}")
        inside = range(begin, begin + len(secret) * 4 // 3 - 4)
        assert not [whole[at : at + 4] for at in inside if whole[at : at + 4] in shown]


def test_a_response_is_hidden_whatever_it_holds() -> None:
    redactor = Redactor()
    response = b64(b"c=biws,r=nonce,p=proof").encode()
    redactor.learn_response(response)
    assert redactor.hide(f"no: {response.decode()}!").replace("=", "") == "no: …!"


@pytest.mark.parametrize("start", range(0, 1200, 37))
def test_any_piece_of_a_long_token(start: int) -> None:
    """What is shown of a line begins and ends anywhere."""
    whole = f"what? LOGIN ann {TOKEN} indeed".encode()
    shown = knowing(TOKEN).hide_octets(whole[start : start + 200])
    assert not any(TOKEN[at : at + 4].encode() in shown for at in range(len(TOKEN) - 3))


@pytest.mark.parametrize("secret", ["a", "the", "in"])
def test_a_short_secret_is_only_a_whole_word(secret: str) -> None:
    assert knowing(secret).hide("authentication failed, details within") == "authentication failed, details within"


def test_without_a_secret_nothing_changes() -> None:
    assert knowing("").hide("[AUTH] no") == "[AUTH] no"
    assert "hunter2" not in repr(knowing("hunter2"))


def test_a_code_that_is_the_secret() -> None:
    assert knowing("hunter2").words("HUNTER2", "wrong") == ("…", "wrong")
    assert knowing("[hunter2] x").words("HUNTER2", "x") == (None, "…")
    assert knowing("hunter2").words("SYS/TEMP", "not hunter2") == ("SYS/TEMP", "not …")


def test_errors_are_cleaned_and_keep_our_own_words() -> None:
    redactor = knowing("PASS")
    error = AuthenticationFailed("PASS", "-ERR", "bad pass", code="AUTH")
    redactor.clean(error)
    assert error.detail == str(error) == "PASS: the server answered -ERR [AUTH] bad …"
    with pytest.raises(ProtocolError) as caught, redactor:
        raise ProtocolError("no answer", data=b"PASS pass")
    assert caught.value.data == b"... ..."


@pytest.mark.parametrize("shown", range(4, 14))
def test_a_secret_in_which_a_long_answer_was_cut(shown: int) -> None:
    said = cut("x" * (SAID_MAX - shown) + "hunter2-lower and more")
    assert knowing("hunter2-lower").hide(said).strip("…") == "x" * (SAID_MAX - shown)


def test_an_answer_of_nothing_but_marks() -> None:
    assert knowing("hunter2-lower").hide("…" * 100_000) == "…" * 100_000
