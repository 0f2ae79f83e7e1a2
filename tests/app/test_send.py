"""``smtplite send`` as its user sees it: real processes, and a server that keeps what it gets octet for octet."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from mailsink import Sink, sinking, smtplite
from test_sources import makeMaildir, mboxrd
from twisted.internet.defer import fail
from twisted.internet.task import Clock

from twisted_smtplite.app.senders import throughMX
from twisted_smtplite.client.content import Content
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import TLSUse
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.errors import ConnectionFailed
from twisted_smtplite.model.results import PeerReply, Stage

HEAD = b"From: Ann <ann@client.test>\nTo: ben@mx.test, Cara <cara@mx.test>\nBcc: dan@mx.test\nSubject: x\n"
SEEN = b"From: Ann <ann@client.test>\r\nTo: ben@mx.test, Cara <cara@mx.test>\r\nSubject: x\r\n"
EVERYBODY = ["ben@mx.test", "cara@mx.test", "dan@mx.test"]
# Dots, eight bits, a bare CR, no end of the last line.
BODY = b"\n.\n..\n.x\nfoo\n\n\xc3\xa4\xff\n" + b"y" * 990 + b"\n\nend"
SEEN_BODY = BODY.replace(b"\n", b"\r\n") + b"\r\n"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with sinking(tmp_path_factory.mktemp("sink")) as sink:
        yield sink


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "one.eml"
    path.write_bytes(HEAD + BODY)
    return path


def test_a_file_arrives_as_it_is_for_those_whom_it_names(sink: Sink, message: Path) -> None:
    done = smtplite("send", "--server", sink.address, message)
    assert re.fullmatch(r"sent; \d+\.\d\d s\n", done.out)
    assert (done.status, done.err) == (0, "")
    [kept] = sink.messages()
    assert (kept.sender, kept.recipients) == ("ann@client.test", EVERYBODY)
    assert kept.content == SEEN + SEEN_BODY
    assert kept.notes["body"] == "'8BITMIME'"


ODD = "\x1b[31m\r\n\x9b\u202e\u00e4.eml"
PLAIN = "\\x1b[31m\\r\\n\\x9b\\u202e\u00e4.eml"


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["sent", "shown"])
def test_a_name_of_a_file_is_no_order_to_a_terminal(dry: tuple[str, ...], tmp_path: Path, sink: Sink) -> None:
    (tmp_path / ODD).write_bytes(b"Subject: nobody is named\n\nx\n")
    done = smtplite("send", "--server", sink.address, *dry, tmp_path / ODD, env={"PYTHONUTF8": "1"})
    assert (done.status, done.err.count("\n")) == (65, 1)
    assert done.err.startswith(f"{tmp_path}/{PLAIN}: it does not say who")
    assert smtplite("send", tmp_path / ODD / ODD, env={"PYTHONUTF8": "1"}).err.startswith(f"smtplite: send: {tmp_path}/{PLAIN}/{PLAIN}: ")
    (tmp_path / ODD).write_bytes(b"From: a@client.test\nTo: b@mx.test\n\nx\n")
    done = smtplite("send", "--dry-run", tmp_path / ODD, env={"PYTHONUTF8": "1"})
    assert done.out == f"{tmp_path}/{PLAIN}: <a@client.test> to <b@mx.test>; 41 octets\n"


def test_files_a_maildir_an_mbox_and_standard_input_go_out_together(sink: Sink, message: Path, tmp_path: Path) -> None:
    maildir = makeMaildir(tmp_path / "mail")
    numbered = [b"Subject: %d\n\nFrom here to >From there\n" % number for number in range(40)]
    for number in range(30):
        (maildir / ("cur" if number % 2 else "new") / f"{1000 + number}.x:2,").write_bytes(numbered[number])
    (tmp_path / "mbox").write_bytes(mboxrd(*numbered[30:38]))
    done = smtplite(
        "send", "--server", sink.address, "--from", "<>", "--to", "ben@mx.test,<cara@mx.test>", "--to", "dan@mx.test",
        maildir, tmp_path / "mbox", "-", stdin=mboxrd(*numbered[38:]),
    )  # fmt: skip
    assert re.fullmatch(r"40 of 40 messages sent; \d+\.\d\d s, [\d,]+ messages/s\n", done.out)
    assert (done.status, done.err) == (0, "")
    kept = sink.messages()
    assert {(each.sender, *each.recipients) for each in kept} == {("", *EVERYBODY)}
    assert sorted(each.content for each in kept) == sorted(each.replace(b"\n", b"\r\n") for each in numbered)


def test_one_line_for_each_refused_recipient_and_the_others_get_the_message(sink: Sink, message: Path) -> None:
    done = smtplite("send", "--server", sink.address, "--to", "ben@mx.test,nobody@mx.test", message)
    assert re.fullmatch(r"sent to some of the recipients, 1 recipient refused; \d+\.\d\d s\n", done.out)
    assert (done.status, done.err) == (69, f"{message}: <nobody@mx.test>: 550 5.7.1 This recipient is not accepted\n")
    assert [kept.recipients for kept in sink.messages()] == [["ben@mx.test"]]


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"451 4.3.0", 75), (b"554 5.6.0", 69), (b"535 5.7.8", 77)],
)
def test_the_status_says_whether_a_later_try_makes_sense(sink: Sink, tmp_path: Path, answer: bytes, status: int) -> None:
    (tmp_path / "1").write_bytes(b"X-Answer: " + answer + b"\n\n")
    (tmp_path / "2").write_bytes(b"\n")
    done = smtplite("send", "--server", sink.address, "--from", "a@client.test", "--to", "ben@mx.test", tmp_path / "1", tmp_path / "2", "--quiet")
    assert (done.status, done.out, done.err) == (status, "", f"{tmp_path}/1: <ben@mx.test>: {answer.decode()} As you like\n")
    assert len(sink.messages()) == 1


def test_each_message_and_the_summary_as_json(sink: Sink, message: Path, tmp_path: Path) -> None:
    (tmp_path / "lost.eml").write_bytes(b"From: ann@client.test\n\nfor nobody\n")
    done = smtplite("send", "--server", sink.address, "--json", "--connections", 1, message, tmp_path / "lost.eml", "--to", "")
    assert done.status == 64
    done = smtplite("send", "--server", sink.address, "--json", "--connections", 1, message, tmp_path / "lost.eml")
    told = [json.loads(line) for line in done.out.splitlines()]
    by = {each["message"]: each for each in told[:-1]}
    assert [each["address"] for each in by[str(message)]["recipients"] if each["accepted"]] == EVERYBODY
    assert by[str(tmp_path / "lost.eml")] == {
        "message": str(tmp_path / "lost.eml"), "error": "it does not say who is to get it, in To, Cc or Bcc", "status": 65
    }  # fmt: skip
    assert told[-1]["summary"].items() >= {"sent": 1, "partly": 0, "unsent": 1, "refused": 0, "status": 65}.items()
    assert done.status == 65
    sink.messages()


def test_reports_and_priorities_are_asked_for(sink: Sink, message: Path) -> None:
    done = smtplite(
        "send", "--server", sink.address, "--notify", "failure,delay", "--ret", "hdrs", "--envid", "a+b=c", "--priority", "-3",
        "--to", "ben@mx.test", message,
    )  # fmt: skip
    assert done.status == 0, done.err
    [kept] = sink.messages()
    assert kept.notes["notify"] == [["DELAY", "FAILURE"]]
    assert (kept.notes["ret"], kept.notes["envelopeId"], kept.notes["priority"]) == ("'HDRS'", "'a+b=c'", "-3")


def test_the_dialogue_can_be_read(sink: Sink, message: Path) -> None:
    done = smtplite("send", "--server", sink.address, "--transcript", message, "--hostname", "client.test")
    assert done.status == 0
    lines = done.err.splitlines()
    assert lines[:2] == ["S: 220 mx.test ESMTP twisted-smtplite", "C: EHLO client.test"]
    size = len(SEEN + SEEN_BODY)
    assert f"C: (message text, {size} octets)" in lines
    assert lines[-2:] == ["C: QUIT", "S: 221 2.0.0 Goodbye"]
    assert "yyyy" not in done.err
    sink.messages()


def test_a_dry_run_connects_nowhere(message: Path, tmp_path: Path) -> None:
    (tmp_path / "lost.eml").write_bytes(b"\nno header\n")
    odd = os.fsencode(tmp_path) + b"/\xff.eml"
    os.link(message, odd)
    done = smtplite("send", "--dry-run", os.fsdecode(odd), env={"LC_ALL": "C"})
    assert done.out.startswith(f"{tmp_path}/\\udcff.eml: <ann@client.test> to ")
    done = smtplite("send", "--dry-run", "--server", "mx.invalid", message, tmp_path / "lost.eml")
    size = len(SEEN + SEEN_BODY)
    assert done.out == f"{message}: <ann@client.test> to <ben@mx.test>, <cara@mx.test>, <dan@mx.test>; {size} octets\n"
    assert done.err == f"{tmp_path}/lost.eml: it does not say who sends it, in From or Sender\n"
    assert done.status == 65


def refusedPort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_a_server_that_is_not_there_is_tried_for_no_further_message(tmp_path: Path) -> None:
    maildir = makeMaildir(tmp_path / "mail")
    for number in range(200):
        (maildir / "new" / str(number)).write_bytes(HEAD)
    port = refusedPort()
    done = smtplite("send", "--server", f"127.0.0.1:{port}", "--connections", 1, maildir)
    assert done.status == 75
    lines = done.err.splitlines()
    assert 0 < len(lines) < 20
    assert all(line.endswith(f": 127.0.0.1:{port}: 451 4.4.1 no connection: Connection refused") for line in lines[:-1])
    assert lines[-1] == "smtplite: the other messages were not tried"


def test_who_breaks_it_off_hears_how_far_it_came(sink: Sink, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "1").write_bytes(HEAD)
        process = subprocess.Popen(
            [sys.executable, "-m", "twisted_smtplite", "send", "--server", f"127.0.0.1:{silent.getsockname()[1]}", tmp_path / "1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        connection.close()
    assert (process.returncode, err) == (130, f"{tmp_path}/1: broken off: it may have arrived or not\n")
    assert out.startswith("not sent; ")


def test_nobody_reads_what_is_told_and_everything_is_sent(sink: Sink, message: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "twisted_smtplite", "send", "--server", sink.address, "--json", *[message] * 200]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=30)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(sink.messages()) == 200


def test_a_login_over_verified_tls(message: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    assert smtplite("passwd", "--stdin", "--hash", "scram-sha-256", folder / "users", "ann", stdin=b"hunter2\n").status == 0
    users = ("--password-file", "users", "--require-auth")
    with sinking(folder, "--self-signed", "--self-signed-directory", "state", *users) as secure:
        arguments = ("send", "--server", f"localhost:{secure.server.port}", "--auth", "ann", message)
        trusting = (*arguments, "--ca", folder / "state" / "self-signed.crt")
        done = smtplite(*trusting, "--transcript", env={"SMTPLITE_PASSWORD": "hunter2"})
        assert (done.status, [kept.sender for kept in secure.messages()]) == (0, ["ann@client.test"]), done.err
        assert "C: AUTH SCRAM-SHA-256" in done.err and "hunter2" not in done.err
        done = smtplite(*trusting, env={"SMTPLITE_PASSWORD": "hunter3"})
        assert (done.status, "535 5.7.8" in done.err) == (77, True), done.err
        # Nobody vouches for the certificate: there is no login, and no mail.
        done = smtplite(*arguments, env={"SMTPLITE_PASSWORD": "hunter2"})
        assert (done.status, "the certificate is self-signed, and not itself trusted here" in done.err) == (75, True), done.err
        assert secure.messages() == []


def test_lmtp_through_a_unix_socket_has_an_answer_for_each(message: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with sinking(folder, "--listen-lmtp", f"unix:{folder}/socket") as local:
        done = smtplite("send", "--lmtp", "--server", f"unix:{folder}/socket", "--to", "ben@mx.test,nobody@mx.test,cara@mx.test", message)
        assert (done.status, done.err) == (69, f"{message}: <nobody@mx.test>: 550 5.7.1 This recipient is not accepted\n")
        assert [kept.recipients for kept in local.messages()] == [["ben@mx.test", "cara@mx.test"]]


def test_mx_asks_where_the_mail_of_a_domain_goes(message: Path) -> None:
    # An address literal needs no name server, and this one is nobody's.
    done = smtplite("send", "--mx", "--to", "ben@[x400:abc]", message)
    assert (done.status, done.err) == (69, f"{message}: <ben@[x400:abc]>: 550 5.1.2 '[x400:abc]' is no address to send to\n")


def test_mx_may_lead_to_the_server_on_this_host() -> None:
    asked = []

    class Pool:
        def send(self, destination: Any, envelope: Any, content: Any) -> Any:
            asked.append(destination)
            return fail(ConnectionFailed(PeerReply(451, "4.4.1", ("refused",), local=True), Stage.CONNECT))

    sender = throughMX(cast("Any", Pool()), TLSUse.NEVER, Clock())
    sender.send(Envelope("E", Address("ann", "client.test"), recipients=[Recipient(Address("ben", "[127.0.0.1]"))]), Content.of(b"\r\n"))
    assert [(destination.address, destination.port) for destination in asked] == [("127.0.0.1", 25)]
