"""``smtplite sendmail`` as programs use it: by its name, through a pipe, and by its status."""

from __future__ import annotations

import email.policy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from mailsink import Done, Sink, sinking, smtplite

from twisted_smtplite.app.cli import main
from twisted_smtplite.app.newmessage import completed
from twisted_smtplite.app.sendmail import fromField, loginName, mailDomain
from twisted_smtplite.app.sendmailoptions import Mode, SendmailOptions, parseSendmail
from twisted_smtplite.model.address import Address

HEAD = (
    b"From: Ann <ann@client.test>\nTo: ben@mx.test\nCc: root\nBcc: dan@mx.test\nDate: Tue, 24 Nov 2026 12:00:00 +0000\nMessage-ID: <1@client.test>\n"
)
SEEN = HEAD.replace(b"Bcc: dan@mx.test\n", b"").replace(b"\n", b"\r\n")
HERE = mailDomain()
USER = f"{loginName()}@{HERE}"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with sinking(tmp_path_factory.mktemp("sink")) as sink:
        yield sink


def sendmail(sink: Sink, *arguments: str, stdin: bytes = b"") -> Done:
    return smtplite("sendmail", *arguments, stdin=stdin, env={"SMTPLITE_SERVER": sink.address})


def test_a_message_goes_to_those_in_its_header_fields_and_those_on_the_command_line(sink: Sink) -> None:
    done = sendmail(sink, "-t", "-i", "-f", "ann@client.test", "eve@mx.test", stdin=HEAD + b"\nHello\n.\nBen\xe4")
    assert done == (0, "", "")
    [kept] = sink.messages()
    assert (kept.sender, kept.recipients) == ("ann@client.test", ["eve@mx.test", "ben@mx.test", f"root@{HERE}", "dan@mx.test"])
    assert kept.content == SEEN + b"\r\nHello\r\n.\r\nBen\xe4\r\n"


def test_what_a_message_lacks_is_added(sink: Sink) -> None:
    done = sendmail(sink, "-F", "Ann \xc4rger", "ben@mx.test", "cara", stdin=b"Subject: x\n\nHello\n.\nBen\n")
    assert done == (0, "", "")
    [kept] = sink.messages()
    assert (kept.sender, kept.recipients) == (USER, ["ben@mx.test", f"cara@{HERE}"])
    message = message_from_bytes(kept.content, policy=email.policy.default)
    assert message["From"] == f"Ann \xc4rger <{USER}>"
    assert re.fullmatch(rf"<[^@<> ]+@{re.escape(HERE)}>", message["Message-ID"])
    assert message["Date"].datetime.tzinfo is not None
    # The dot has ended it.
    assert message.get_content() == "Hello\r\n"


def test_it_is_sendmail_when_it_is_called_so(sink: Sink, tmp_path: Path) -> None:
    program = shutil.which("smtplite", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program is not None
    (tmp_path / "sendmail").symlink_to(program)
    (tmp_path / "mailq").symlink_to(program)
    command = [str(tmp_path / "sendmail"), "-oi", "-f", "<>", "-S", sink.address, "--", "ben@mx.test"]
    assert subprocess.run(command, input=HEAD + b"\nx\n", capture_output=True, timeout=30).returncode == 0
    [kept] = sink.messages()
    assert (kept.sender, kept.recipients) == ("", ["ben@mx.test"])
    assert subprocess.run([tmp_path / "mailq"], capture_output=True, timeout=30).stdout == b"Mail queue is empty\n"


def test_git_sends_patches_with_it(sink: Sink, tmp_path: Path) -> None:
    patch = tmp_path / "1.patch"
    patch.write_bytes(b"From 0 Mon Sep 17 00:00:00 2001\nFrom: Ann <ann@client.test>\nSubject: [PATCH] x\n\nFrom here\n---\n.\n")
    command = f"{sys.executable} -m twisted_smtplite sendmail -i -S {sink.address}"
    arguments = ["--to=ben@mx.test", "--from=ann@client.test", "--suppress-cc=all", "--confirm=never", f"--sendmail-cmd={command}", str(patch)]
    done = subprocess.run(["git", "send-email", *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    if "not a git command" in done.stderr or "Mail::Address" in done.stderr:
        pytest.skip("git send-email is not installed, or lacks a part of its own")
    assert done.returncode == 0, done.stderr
    [kept] = sink.messages()
    assert kept.recipients == ["ben@mx.test"]
    assert kept.content.endswith(b"\r\n\r\nFrom here\r\n---\r\n.\r\n")


def test_the_status_is_that_of_sysexits_and_a_line_says_why(sink: Sink) -> None:
    done = sendmail(sink, "nobody@mx.test", stdin=HEAD)
    assert (done.status, done.err) == (69, "sendmail: <nobody@mx.test>: 550 5.7.1 This recipient is not accepted\n")
    done = sendmail(sink, "ben@mx.test", stdin=b"X-Answer: 451 4.3.0\n")
    assert (done.status, done.err) == (75, "sendmail: <ben@mx.test>: 451 4.3.0 As you like\n")
    done = smtplite("sendmail", "-S", "127.0.0.1:1", "ben@mx.test", stdin=HEAD)
    assert done.status == 75 and done.err.startswith("sendmail: 127.0.0.1:1: 451 4.4.1 ")
    done = sendmail(sink, "-t", stdin=b"Subject: for nobody\n\n")
    assert (done.status, done.err) == (65, "sendmail: it does not say who is to get it, in To, Cc or Bcc\n")
    assert sink.messages() == []


def test_reports_are_asked_for(sink: Sink) -> None:
    done = sendmail(sink, "-N", "success,failure", "-R", "hdrs", "-V", "x1", "-v", "ben@mx.test", stdin=HEAD)
    assert done.status == 0
    assert "C: RCPT TO:<ben@mx.test> NOTIFY=" in done.err
    [kept] = sink.messages()
    assert (kept.notes["notify"], kept.notes["ret"], kept.notes["envelopeId"]) == ([["FAILURE", "SUCCESS"]], "'HDRS'", "'x1'")


def test_a_program_can_talk_to_the_server_itself(sink: Sink) -> None:
    dialogue = b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<ben@mx.test>\r\nDATA\r\nhello\r\n.\r\nquit\r\n"
    done = sendmail(sink, "-bs", stdin=dialogue)
    assert done.status == 0, done.err
    replies = [line[:4] for line in done.out.splitlines() if line[3:4] == " "]
    assert replies == ["220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "]
    assert [kept.content for kept in sink.messages()] == [b"hello\r\n"]
    done = smtplite("sendmail", "-bs", "-S", "127.0.0.1:1")
    assert (done.status, done.out) == (75, "421 4.4.1 127.0.0.1:1 cannot be reached\r\n")
    assert done.err == "sendmail: 127.0.0.1:1: Connection refused\n"
    done = smtplite("sendmail", "-bs", env={"SMTPLITE_TLS": "required"})
    assert done.status == 64


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-t -i", SendmailOptions(fromHeader=True, dots=True)),
        ("-ti", SendmailOptions(fromHeader=True, dots=True)),
        ("-oi -odb -oem -oA/etc/aliases ben", SendmailOptions(dots=True, recipients=["ben"])),
        ("-fann@client.test -FAnn ben -i cara", SendmailOptions(dots=True, sender="ann@client.test", fullName="Ann", recipients=["ben", "cara"])),
        ("-r ann ben", SendmailOptions(sender="ann", recipients=["ben"])),
        ("-bm -B8BITMIME -Am -G -L tag -n -O QueueDirectory=/tmp -U -X log -h 3 -d0 -e m -p ESMTP:x -m -s ben", SendmailOptions(recipients=["ben"])),
        ("-i -f ann -- -ben --help", SendmailOptions(dots=True, sender="ann", recipients=["-ben", "--help"])),
        ("-q", SendmailOptions(mode=Mode.FLUSH)),
        ("-q30m -v", SendmailOptions(mode=Mode.FLUSH, verbose=True)),
        ("-bp", SendmailOptions(mode=Mode.QUEUE)),
        ("-bi", SendmailOptions(mode=Mode.ALIASES)),
        ("-bs", SendmailOptions(mode=Mode.DIALOGUE)),
        ("-N never -R FULL", SendmailOptions(notify=frozenset({"NEVER"}), ret="FULL")),
        ("--help", SendmailOptions(mode=Mode.HELP)),
    ],
)
def test_the_options_that_programs_use(arguments: str, expected: SendmailOptions) -> None:
    assert parseSendmail(arguments.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("-bd", "-bd is not to be had here"),
        ("-bv ben", "-bv is not to be had here"),
        ("-Z", "option -Z not recognized"),
        ("-f", "option -f requires argument"),
        ("-N never,delay", "-N never,delay: never is needed"),
        ("-R some", "-R some: full or hdrs is needed"),
        ("-V \xe4", "-V \xe4: 1 to 100 printable ASCII"),
    ],
)
def test_what_cannot_be_had_is_said(arguments: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parseSendmail(arguments.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nobody is named to send to: give addresses, or -t for those of the message"),
        (("-S", "[x", "ben"), "-S [x: "),
        (("-f", "a b", "ben"), "-f a b: "),
        (("ben@",), "'ben@' is no address"),
        (("-Z",), "option -Z not recognized"),
    ],
)
def test_wrong_values_end_it_before_anything_is_read(arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["sendmail", *arguments])
    assert raised.value.code == 64
    assert capsys.readouterr().err.startswith(f"sendmail: {sentence}")


@pytest.mark.parametrize(
    ("name", "local", "expected"),
    [
        ("", "ann", "ann@client.test"),
        ("Ann\r\nBcc: all@client.test", "ann", '"Ann Bcc: all@client.test" <ann@client.test>'),
        ("\udcff", "ann", "=?utf-8?b?77+9?= <ann@client.test>"),
        ("Ann", "\xe4nn", "<\xe4nn@client.test>"),
    ],
)
def test_a_name_stays_a_name(name: str, local: str, expected: str) -> None:
    assert fromField(name, Address(local, "client.test")) == expected


FIELDS = {"Message-ID": lambda: "<1>", "Date": lambda: "now", "From": lambda: "me"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Subject: x\n\nFrom: no\n", b"Message-ID: <1>\nDate: now\nFrom: me\nSubject: x\n\nFrom: no\n"),
        (b"from : x\r\nMESSAGE-ID:y\r\n z\r\n\r\nbody", b"Date: now\r\nfrom : x\r\nMESSAGE-ID:y\r\n z\r\n\r\nbody"),
        (b"no header\nat all\n", b"Message-ID: <1>\nDate: now\nFrom: me\n\nno header\nat all\n"),
        (b"\nno header\n", b"Message-ID: <1>\nDate: now\nFrom: me\n\nno header\n"),
        (b"", b"Message-ID: <1>\nDate: now\nFrom: me\n\n"),
        (b"From me Thu Jan  1 00:00:00 2026\nDate: x\nFrom: x\nMessage-ID: x\n", b"Date: x\nFrom: x\nMessage-ID: x\n"),
    ],
)
def test_the_fields_that_are_added(content: bytes, expected: bytes) -> None:
    assert completed(content, FIELDS) == expected
