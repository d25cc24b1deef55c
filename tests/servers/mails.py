"""Mails that look like people's, the same ones every time: for the demonstration, and for tests that need variety."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Iterator

_PEOPLE = [
    ("Ann Example", "ann@example.org"),
    ("Jürgen Müller", "juergen@example.de"),
    ("Zoë Ní Bhriain", "zoe@example.ie"),
    ("山田太郎", "taro@example.jp"),
    ("Build robot", "ci@build.example"),
    ("Sam O'Neil", "sam@example.com"),
]
_SUBJECTS = [
    "Lunch on Thursday?", "Re: Lunch on Thursday?", "Rechnung für Oktober", "[list] Release 2.3 is out", "会議の議事録",
    "Photos from the lake", "Your order has been shipped", "Fwd: minutes of the meeting", "Nightly build: 3 failures",
]  # fmt: skip
_SENTENCES = [
    "The figures for this quarter are attached, have a look at the second page.",
    "I have moved the meeting to Thursday, same room.",
    "Viele Grüße aus Köln, es regnet schon den ganzen Tag.",
    "Can you check whether the backup of last night came through?",
    "From here on the line begins with a word that mail programs used to escape.",
    ".a line that begins with a dot",
    "..and one with two",
]


def mails(count: int, seed: int = 1) -> Iterator[bytes]:
    """So many mails with CRLF line ends: plain, 8-bit, quoted-printable, HTML, with attachments, of 1 to 60 KB."""
    chance = random.Random(seed)
    for number in range(count):
        yield _mail(number, chance)


def _mail(number: int, chance: random.Random) -> bytes:
    name, address = chance.choice(_PEOPLE)
    subject = chance.choice(_SUBJECTS)
    text = "\r\n".join(chance.choice(_SENTENCES) for _ in range(chance.randint(3, 60))) + "\r\n"
    head = (
        f"Received: from mail.{address.split('@')[1]} by mx.example.org with ESMTPS id {chance.getrandbits(48):x};\r\n"
        f"\tTue, {1 + number % 28} Oct 2026 10:{number % 60:02d}:00 +0200\r\n"
        f"From: {_word(name)} <{address}>\r\nTo: Ann Example <ann@example.org>\r\nSubject: {_word(subject)}\r\n"
        f"Date: Tue, {1 + number % 28} Oct 2026 10:{number % 60:02d}:00 +0200\r\n"
        f"Message-ID: <{number}.{chance.getrandbits(64):x}@{address.split('@')[1]}>\r\nMIME-Version: 1.0\r\n"
    )
    match number % 4:
        case 0:
            part = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}".encode()
        case 1:
            body = quopri.encodestring(text.encode()).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            part = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + body
        case 2:
            part = f"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{text}</p></body></html>\r\n".encode()
        case _:
            attachment = base64.encodebytes(chance.randbytes(chance.randint(500, 40_000))).replace(b"\n", b"\r\n")
            part = (
                f'Content-Type: multipart/mixed; boundary="b{number}"\r\n\r\n--b{number}\r\n'
                f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n--b{number}\r\n"
                'Content-Type: application/pdf; name="figures.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            ).encode() + attachment + f"\r\n--b{number}--\r\n".encode()  # fmt: skip
    return head.encode() + part


def _word(text: str) -> str:
    """An encoded word (RFC 2047) where it needs to be one."""
    return text if text.isascii() else f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


AWKWARD: dict[str, bytes] = {
    "empty": b"",
    "one line end": b"\r\n",
    "no header": b"\r\njust text\r\n",
    "no body": b"Subject: nothing else\r\n\r\n",
    "no line end at the end": b"Subject: x\r\n\r\nlast line",
    "bare LF": b"Subject: x\n\nunix\nlines\n",
    "bare CR": b"Subject: x\r\n\r\nold\rmac\rlines\r\n",
    "mixed": b"Subject: x\r\n\r\none\r\ntwo\nthree\rfour\r\n",
    "CR before the end": b"Subject: x\r\n\r\nends in CR\r",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.a\r\n",
    "long line": b"Subject: long\r\n\r\n" + b"x" * 20_000 + b"\r\n",
    "NUL": b"Subject: nul\r\n\r\nbefore\0after\r\n",
    "8-bit header": b"Subject: f\xfcr dich\r\nFrom: M\xfcller <m@example.de>\r\n\r\ntext \xe4\xf6\xfc\r\n",
    "From line": b"From ann@example.org Tue Oct  6 10:00:00 2026\r\nSubject: x\r\n\r\nFrom here\r\n",
    "looks like IMAP": b"Subject: x\r\n\r\n)\r\n* 1 FETCH (UID 1 BODY[] {3}\r\nF1 OK done\r\n",
}
"""Mails that have broken mail programs, by what is awkward about them."""
