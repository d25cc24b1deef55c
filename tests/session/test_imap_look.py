"""Looking at an account: LIST and STATUS with and without their extensions, and listings by QRESYNC, CONDSTORE, or neither."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fetchmail_py.errors import ProtocolError, ServerBusy, ServerRefused
from fetchmail_py.model import Coverage, Look, MailboxName, UidSet
from fetchmail_py.session import imap_look
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_look import WINDOW, Known, introduce, list_mailboxes, look, settle, survey
from fetchmail_py.session.login import Login
from tests.session.peer import Octets, Peer, Step

NAME = MailboxName("INBOX")
SELECTED = """
    S: * 2 EXISTS
    S: * OK [UIDVALIDITY 7] ok
    S: * OK [UIDNEXT 12] ok
    S: * OK [HIGHESTMODSEQ 90] ok
    S: * OK [PERMANENTFLAGS (\\Seen \\*)] ok
"""


def peer_with(capabilities: str, *steps: Step) -> Peer:
    return Peer(f"S: * PREAUTH [CAPABILITY IMAP4rev1 {capabilities}] hi", *steps)


def session_to(peer: Peer) -> ImapSession:
    return ImapSession.open(peer.endpoint(), Login("ann", "auto", lambda: "secret"))


def names_of(capabilities: str, *steps: Step) -> list[str]:
    with peer_with(capabilities, *steps) as peer:
        session = session_to(peer)
        found = list_mailboxes(session)
        session.close()
    return [mailbox.name for mailbox in found]


class TestSurvey:
    FIRST = """
        C: F1 ENABLE QRESYNC
        C: F2 LIST "" "*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))
        C: F3 EXAMINE "INBOX" (QRESYNC (7 80))
        C: F4 COMPRESS DEFLATE
        S: * ENABLED QRESYNC
        S: F1 OK
        S: * LIST () "/" INBOX
        S: * STATUS INBOX (MESSAGES 2 UIDNEXT 12 UIDVALIDITY 7 HIGHESTMODSEQ 90)
        S: F2 OK
    """
    KNOWN = Known(NAME, 7, 80)

    @pytest.mark.parametrize(
        ("examined", "compressed", "seen"),
        [
            (SELECTED + "S: * 2 FETCH (UID 11 FLAGS (\\Seen) MODSEQ (90))\nS: F3 OK", "OK", [11]),
            ("S: F3 NO [SERVERBUG] not now", "OK", None),
            ("S: F3 BAD QRESYNC is not enabled", "NO no", None),
            (SELECTED.replace("UIDVALIDITY 7", "UIDVALIDITY 8") + "S: F3 OK", "NO no", None),
        ],
    )
    def test_a_mailbox_is_looked_at_in_the_same_exchange(
        self, examined: str, compressed: str, seen: list[int] | None
    ) -> None:
        steps = (self.FIRST, examined, f"S: F4 {compressed}")
        with peer_with("ENABLE QRESYNC LIST-STATUS COMPRESS=DEFLATE", *steps) as peer:
            session = session_to(peer)
            found = survey(session, self.KNOWN, compress=True)
            assert session.compressed == (compressed == "OK")
            session.close()
        assert [box.messages for box in found.mailboxes] == [2]
        assert (None if found.ahead is None else list(found.ahead.messages)) == seen

    def test_a_refused_list_leaves_nothing_unread(self) -> None:
        steps = (self.FIRST.replace("S: F2 OK", "S: F2 NO no"), SELECTED + "S: F3 OK", "S: F4 NO no", "C: F5 NOOP\nS: F5 OK")
        with peer_with("ENABLE QRESYNC LIST-STATUS COMPRESS=DEFLATE", *steps) as peer:
            session = session_to(peer)
            with pytest.raises(ServerRefused):
                survey(session, self.KNOWN, compress=True)
            session.run(b"NOOP")
            session.close()


class TestList:
    def test_without_extensions_every_mailbox_is_asked_for_its_numbers(self) -> None:
        script = """
            C: F1 LIST "" "*"
            S: * LIST (\\HasChildren) "/" INBOX
            S: * LIST (\\Noselect) "/" "a b"
            S: * LIST () "/" Entw&APw-rfe
            S: F1 OK
            C: F2 STATUS "INBOX" (MESSAGES UIDNEXT UIDVALIDITY)
            C: F3 STATUS "Entw&APw-rfe" (MESSAGES UIDNEXT UIDVALIDITY)
            S: * STATUS inbox (MESSAGES 1)
            S: * STATUS INBOX (UIDVALIDITY 7 MESSAGES 2 UIDNEXT 12)
            S: F2 OK
            S: F3 NO [SERVERBUG] it is broken
        """
        with peer_with("", script) as peer:
            session = session_to(peer)
            inbox, holder, drafts = list_mailboxes(session)
            session.close()
        assert (inbox.name, inbox.delimiter, inbox.attributes) == ("INBOX", "/", frozenset({"\\haschildren"}))
        assert (inbox.uidvalidity, inbox.messages, inbox.uidnext, inbox.highestmodseq) == (7, 2, 12, None)
        assert (holder.name, holder.selectable, holder.messages) == ("a b", False, None)
        # One that does not answer is looked at all the same.
        assert (drafts.name, drafts.uidvalidity, drafts.selectable) == ("Entwürfe", None, True)

    def test_numbers_out_of_range_count_as_not_told(self) -> None:
        numbers = "MESSAGES 4294967296 UIDNEXT 4294967296 UIDVALIDITY 4294967296 HIGHESTMODSEQ 9223372036854775808"
        script = f"""
            C: F1 LIST "" "*"
            S: * LIST () "/" INBOX
            S: F1 OK
            C: F2 STATUS "INBOX" (MESSAGES UIDNEXT UIDVALIDITY)
            S: * STATUS INBOX ({numbers})
            S: F2 OK
        """
        with peer_with("", script) as peer:
            session = session_to(peer)
            (inbox,) = list_mailboxes(session)
            session.close()
        assert (inbox.messages, inbox.uidnext, inbox.uidvalidity, inbox.highestmodseq) == (None, None, None, None)

    def test_with_extensions_one_command_does_it(self) -> None:
        script = """
            C: F1 ID ("name" "fetchmail-py")
            C: F2 ENABLE UTF8=ACCEPT QRESYNC
            C: F3 LIST "" "*" RETURN (SUBSCRIBED SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID))
            S: * ID NIL
            S: F1 OK
            S: * ENABLED UTF8=ACCEPT QRESYNC
            S: F2 OK
            S: * LIST (\\Sent) "/" "Entw\xc3\xbcrfe & mehr"
            S: * STATUS "Entw\xc3\xbcrfe & mehr" (MESSAGES 2 HIGHESTMODSEQ 90 MAILBOXID (F2212))
            S: F3 OK
        """
        capabilities = "ID ENABLE UTF8=ACCEPT QRESYNC LIST-STATUS LIST-EXTENDED SPECIAL-USE OBJECTID"
        with peer_with(capabilities, script) as peer:
            session = session_to(peer)
            (mailbox,) = list_mailboxes(session)
            assert session.enabled == {"UTF8=ACCEPT", "QRESYNC"}
            session.close()
        assert mailbox.name == "Entwürfe & mehr"
        assert mailbox.attributes == {"\\sent"}
        assert (mailbox.messages, mailbox.highestmodseq, mailbox.mailbox_id) == (2, 90, "F2212")

    @pytest.mark.parametrize(
        ("capabilities", "command"),
        [
            ("SPECIAL-USE", '"*"'),
            ("LIST-EXTENDED SPECIAL-USE", '"*" RETURN (SUBSCRIBED SPECIAL-USE)'),
            ("LIST-STATUS", '"*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY))'),
            ("LIST-STATUS CONDSTORE", '"*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))'),
        ],
    )
    def test_only_what_is_offered_is_asked(self, capabilities: str, command: str) -> None:
        assert names_of(capabilities, f'C: F1 LIST "" {command}\nS: F1 OK') == []

    def test_refused_introductions_change_nothing(self) -> None:
        script = 'C: F1 ID ("name" "fetchmail-py")\nC: F2 ENABLE CONDSTORE\nS: F1 BAD what?\nS: F2 NO no'
        with peer_with("ID ENABLE CONDSTORE", script) as peer:
            session = session_to(peer)
            settle(session, introduce(session))
            assert session.enabled == set()
            session.close()

    def test_namespaces_that_a_list_does_not_show(self) -> None:
        found = names_of(
            "NAMESPACE LIST-STATUS",
            """
            C: F1 NAMESPACE
            C: F2 LIST "" "*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY))
            S: * NAMESPACE (("" "/")) (("Other/" "/")) (("Public/" "/")("INBOX" "/"))
            S: F1 OK
            S: * LIST () "/" INBOX
            S: * LIST () "/" Other/bob
            S: F2 OK
            C: F3 LIST "" "Public/*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY))
            S: * LIST () "/" Public/x
            S: F3 OK
            """,
        )
        assert found == ["INBOX", "Other/bob", "Public/x"]

    def test_refused(self) -> None:
        with peer_with("", 'C: F1 LIST "" "*"\nS: F1 NO [UNAVAILABLE] later') as peer:
            session = session_to(peer)
            with pytest.raises(ServerBusy):
                list_mailboxes(session)
            session.close()

    def test_a_name_that_is_no_utf7_goes_back_as_it_came(self) -> None:
        found = names_of(
            "",
            'C: F1 LIST "" "*"\nS: * LIST () "/" "B\xfcro"\nS: * LIST () "/" {4}\nS: a\nS: b\nS: F1 OK',
            "C: F2 STATUS {4}\nS: + go",
            Octets(b"B\xfcro (MESSAGES UIDNEXT UIDVALIDITY)\r\n"),
            "C: F3 STATUS {4}\nS: F2 OK\nS: +",
            Octets(b"a\r\nb (MESSAGES UIDNEXT UIDVALIDITY)\r\n"),
            "S: F3 OK",
        )
        assert len(found) == 2

    @pytest.mark.parametrize("capabilities", ["", "LIST-STATUS"])
    def test_a_name_that_no_command_can_hold_is_left_out(self, capabilities: str) -> None:
        extended = bool(capabilities)
        command = 'C: F1 LIST "" "*"' + (" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY))" if extended else "")
        answer = b'* LIST () "/" {3}\r\na\0b\r\n* STATUS {3}\r\na\0b (MESSAGES 1)\r\n* LIST () "/" c\r\nF1 OK\r\n'
        answer = b'* LIST () "/" "' + b"x" * 100_000 + b'"\r\n' + answer
        steps: list[Step] = [command, answer]
        if not extended:
            steps.append('C: F2 STATUS "c" (MESSAGES UIDNEXT UIDVALIDITY)\nS: F2 OK')
        assert names_of(capabilities, *steps) == ["c"]

    def test_there_is_a_limit_to_mailboxes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_look, "MAX_MAILBOXES", 10)
        endless = b"".join(b"* LIST () NIL m%d\r\n* STATUS m%d (MESSAGES 1)\r\n" % (number, number) for number in range(100))
        with peer_with("", 'C: F1 LIST "" "*"', endless) as peer:
            session = session_to(peer)
            with pytest.raises(ProtocolError, match="more than 10 mailboxes"):
                list_mailboxes(session)
            session.close()

    def test_commands_ahead_of_answers_have_a_limit(self) -> None:
        count = 3 * WINDOW

        def statuses(peer: Peer) -> None:
            peer.read_line()
            peer.send(b"".join(b"* LIST () NIL m%d\r\n" % number for number in range(count)) + b"F1 OK\r\n")
            for number in range(WINDOW):
                assert peer.read_line().startswith(b"F%d STATUS" % (number + 2))
            assert peer._buffer == b"", "more commands than the window allows"
            for number in range(count):
                peer.send(b"* STATUS m%d (MESSAGES %d)\r\nF%d OK\r\n" % (number, number, number + 2))
            for _ in range(count - WINDOW):
                peer.read_line()

        with peer_with("", statuses) as peer:
            session = session_to(peer)
            assert [mailbox.messages for mailbox in list_mailboxes(session)] == list(range(count))
            session.close()


def looks(capabilities: str, wanted: Iterable[Known], *steps: Step, enabled: str = "") -> list[Look | ServerRefused]:
    with peer_with(capabilities, *steps) as peer:
        session = session_to(peer)
        session.enabled = frozenset(enabled.split())
        found = [result for _, result in look(session, wanted)]
        session.close()
    return found


def look_at(capabilities: str, known: Known, *steps: Step, enabled: str = "") -> Look:
    (found,) = looks(capabilities, [known], *steps, enabled=enabled)
    assert isinstance(found, Look)
    return found


class TestLook:
    def test_without_extensions(self) -> None:
        found = look_at(
            "",
            Known(NAME, 7, 80),
            f'C: F1 EXAMINE "INBOX"\nC: F2 UID FETCH 1:* (FLAGS){SELECTED}S: F1 OK [READ-ONLY] done',
            "S: * 1 FETCH (UID 5 FLAGS (\\Seen))\nS: * 2 FETCH (FLAGS (\\Recent) UID 11)\nS: * 1 FETCH (FLAGS ())\nS: F2 OK",
        )
        assert found.coverage is Coverage.ALL
        assert (found.uidvalidity, found.uidnext, found.exists, found.highestmodseq) == (7, 12, 2, 90)
        assert {uid: set(message.flags) for uid, message in found.messages.items()} == {5: {"\\Seen"}, 11: set()}
        assert found.read_only
        assert found.permanent_flags == frozenset({"\\Seen", "\\*"})
        assert found.present is None

    def test_condstore_tells_changes_and_every_uid(self) -> None:
        found = look_at(
            "CONDSTORE ESEARCH",
            Known(NAME, 7, 80),
            f"""
            C: F1 EXAMINE "INBOX" (CONDSTORE)
            C: F2 UID SEARCH RETURN (ALL) ALL
            C: F3 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 80)
            {SELECTED}
            S: F1 OK
            S: * ESEARCH (TAG "F2") UID ALL 5,11
            S: F2 OK
            S: * 2 FETCH (UID 11 FLAGS (\\Seen) MODSEQ (85))
            S: F3 OK
            """,
        )
        assert found.coverage is Coverage.CHANGES
        assert found.present == UidSet.of([5, 11])
        assert [(message.uid, message.modseq) for message in found.messages.values()] == [(11, 85)]

    def test_condstore_without_esearch_tells_changes_only(self) -> None:
        found = look_at(
            "CONDSTORE",
            Known(NAME, 7, 80),
            f'C: F1 EXAMINE "INBOX" (CONDSTORE)\nC: F2 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 80){SELECTED}S: F1 OK\nS: F2 OK',
        )
        assert (found.coverage, found.present, found.messages) == (Coverage.CHANGES, None, {})

    def test_an_empty_esearch_is_an_empty_mailbox(self) -> None:
        found = look_at(
            "CONDSTORE ESEARCH",
            Known(NAME, 7, 80),
            """
            C: F1 EXAMINE "INBOX" (CONDSTORE)
            C: F2 UID SEARCH RETURN (ALL) ALL
            C: F3 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 80)
            S: * 0 EXISTS
            S: * OK [UIDVALIDITY 7] ok
            S: F1 OK
            S: * ESEARCH (TAG "F2") UID
            S: F2 OK
            S: F3 BAD no messages
            """,
        )
        assert (found.exists, found.present) == (0, UidSet())

    def test_qresync_needs_one_command(self) -> None:
        found = look_at(
            "QRESYNC",
            Known(NAME, 7, 80),
            f"""
            C: F1 EXAMINE "INBOX" (QRESYNC (7 80))
            S: * OK [CLOSED] the mailbox before
            {SELECTED}
            S: * VANISHED (EARLIER) 1:4
            S: * VANISHED (EARLIER) 8
            S: * 2 FETCH (UID 11 FLAGS () MODSEQ (85))
            S: * 1 FETCH (UID 5 FLAGS ($X) MODSEQ (86))
            S: * VANISHED 11
            S: F1 OK
            """,
            enabled="QRESYNC",
        )
        assert found.coverage is Coverage.CHANGES
        assert found.vanished == UidSet([(1, 4), (8, 8)])
        assert list(found.messages) == [5], "what vanishes in the meantime is not listed"
        assert found.exists == 1

    def test_what_belongs_to_the_mailbox_before_is_not_taken_for_this_one(self) -> None:
        found = look_at(
            "QRESYNC",
            Known(NAME, 7, 80),
            """
            C: F1 EXAMINE "INBOX" (QRESYNC (7 80))
            S: * 50 EXISTS
            S: * VANISHED (EARLIER) 30
            S: * 3 FETCH (UID 31 FLAGS ())
            S: * OK [CLOSED] here it begins
            S: * 1 EXISTS
            S: * OK [UIDVALIDITY 7] ok
            S: * OK [NOMODSEQ] no
            S: F1 OK
            """,
            enabled="QRESYNC",
        )
        assert (found.exists, found.messages, found.vanished, found.highestmodseq) == (1, {}, UidSet(), 0)

    def test_late_news_of_the_mailbox_before_without_qresync(self) -> None:
        script = """
            C: F1 EXAMINE "Other" (CONDSTORE)
            C: F2 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 80)
            C: F3 EXAMINE "INBOX" (CONDSTORE)
            C: F4 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 80)
            S: * 9 EXISTS
            S: * OK [UIDVALIDITY 3] ok
            S: F1 OK
            S: F2 OK
            S: * 3 FETCH (UID 3 FLAGS (\\Deleted) MODSEQ (99))
            S: * VANISHED (EARLIER) 5
            S: * 10 EXISTS
            S: * 4 FETCH (UID 4 FLAGS (\\Deleted) MODSEQ (99))
            S: * FLAGS (\\Seen)
            S: * 2 EXISTS
            S: * OK [UIDVALIDITY 7] ok
            S: F3 OK
            S: * 2 FETCH (UID 11 FLAGS () MODSEQ (85))
            S: F4 OK
        """
        _, found = looks("CONDSTORE", [Known(MailboxName("Other"), 3, 80), Known(NAME, 7, 80)], script)
        assert isinstance(found, Look)
        assert (list(found.messages), found.vanished, found.exists) == ([11], UidSet(), 2)

    def test_a_mailbox_that_tells_no_count_has_not_that_of_the_one_before(self) -> None:
        script = """
            C: F1 EXAMINE "INBOX"
            C: F2 UID FETCH 1:* (FLAGS)
            C: F3 EXAMINE "Other"
            C: F4 UID FETCH 1:* (FLAGS)
            S: * 5 EXISTS
            S: F1 OK
            S: F2 OK
            S: F3 OK
            S: F4 BAD no messages
        """
        first, second = looks("", [Known(NAME), Known(MailboxName("Other"))], script)
        assert isinstance(first, Look)
        assert isinstance(second, Look)
        assert (first.exists, second.exists) == (5, 0)

    @pytest.mark.parametrize("digits", ["4294967296", "9223372036854775808", "9" * 20, "9" * 5000, "x", "-1", ""])
    def test_numbers_out_of_range_count_as_not_told(self, digits: str) -> None:
        script = f"""
            C: F1 EXAMINE "INBOX"
            C: F2 UID FETCH 1:* (FLAGS)
            C: F3 EXAMINE "Other"
            C: F4 UID FETCH 1:* (FLAGS)
            S: * 0 EXISTS
            S: * OK [UIDVALIDITY {digits}] ok
            S: * OK [UIDNEXT {digits}] ok
            S: * OK [HIGHESTMODSEQ {digits if digits != "4294967296" else "9223372036854775808"}] ok
            S: F1 OK
            S: F2 OK
            S: * 0 EXISTS
            S: * OK [UIDVALIDITY 4294967295] ok
            S: * OK [HIGHESTMODSEQ 9223372036854775807] ok
            S: F3 OK
            S: F4 OK
        """
        first, second = looks("", [Known(NAME), Known(MailboxName("Other"))], script)
        assert isinstance(first, Look)
        assert isinstance(second, Look)
        assert (first.uidvalidity, first.uidnext, first.highestmodseq) == (0, 0, 0)
        assert (second.uidvalidity, second.highestmodseq) == (2**32 - 1, 2**63 - 1)

    def test_there_is_a_limit_to_messages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_look, "MAX_MESSAGES", 10)
        script = f'C: F1 EXAMINE "INBOX"\nC: F2 UID FETCH 1:* (FLAGS){SELECTED}S: F1 OK'
        endless = b"".join(b"* 1 FETCH (UID %d FLAGS ())\r\n" % uid for uid in range(1, 100))
        with peer_with("", script, endless) as peer:
            session = session_to(peer)
            with pytest.raises(ProtocolError, match="more than 10 messages"):
                list(look(session, [Known(NAME)]))
            session.close()

    @pytest.mark.parametrize("known", [Known(NAME), Known(NAME, 7, 0), Known(NAME, 7, 80, everything=True)])
    def test_in_full_where_nothing_is_known_or_all_is_wanted(self, known: Known) -> None:
        steps = f'C: F1 EXAMINE "INBOX" (CONDSTORE)\nC: F2 UID FETCH 1:* (FLAGS){SELECTED}S: F1 OK\nS: F2 OK'
        assert look_at("CONDSTORE QRESYNC", known, steps, enabled="QRESYNC").coverage is Coverage.ALL

    def test_another_uidvalidity_is_looked_at_in_full(self) -> None:
        found = look_at(
            "QRESYNC",
            Known(NAME, 6, 80),
            f'C: F1 EXAMINE "INBOX" (QRESYNC (6 80)){SELECTED}S: F1 OK',
            f'C: F2 EXAMINE "INBOX" (CONDSTORE)\nC: F3 UID FETCH 1:* (FLAGS){SELECTED}S: F2 OK',
            "S: * 1 FETCH (UID 5 FLAGS ())\nS: * 2 FETCH (UID 11 FLAGS ())\nS: F3 OK",
            enabled="QRESYNC",
        )
        assert (found.coverage, found.uidvalidity, list(found.messages)) == (Coverage.ALL, 7, [5, 11])

    def test_a_mailbox_that_is_refused_does_not_keep_the_others(self) -> None:
        refused, listing_refused, fine = looks(
            "",
            [Known(MailboxName("gone")), Known(MailboxName("half")), Known(NAME)],
            """
            C: F1 EXAMINE "gone"
            C: F2 UID FETCH 1:* (FLAGS)
            C: F3 EXAMINE "half"
            C: F4 UID FETCH 1:* (FLAGS)
            C: F5 EXAMINE "INBOX"
            C: F6 UID FETCH 1:* (FLAGS)
            S: F1 NO [NONEXISTENT] no such mailbox
            S: F2 BAD nothing selected
            S: * 3 EXISTS
            S: F3 OK
            S: F4 NO [SERVERBUG] cannot
            S: * 0 EXISTS
            S: F5 OK
            S: F6 BAD no messages
            """,
        )
        assert isinstance(refused, ServerRefused)
        assert (refused.code, refused.mailbox) == ("NONEXISTENT", "gone")
        assert isinstance(listing_refused, ServerBusy)
        assert listing_refused.mailbox == "half"
        assert isinstance(fine, Look)
        assert fine.exists == 0

    def test_mail_that_comes_while_we_look_makes_the_count_right_or_tells_that_it_is_not(self) -> None:
        found = look_at(
            "",
            Known(NAME),
            f'C: F1 EXAMINE "INBOX"\nC: F2 UID FETCH 1:* (FLAGS){SELECTED}S: F1 OK',
            "S: * 1 FETCH (UID 5 FLAGS ())\nS: * 3 EXISTS\nS: * 1 EXPUNGE\nS: F2 OK",
        )
        assert found.exists == 2
        assert list(found.messages) == [5]
