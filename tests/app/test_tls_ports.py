"""The ports of the command line: what each speaks, with and without TLS, and which options go together."""

from __future__ import annotations

import smtplib
import socket
import ssl
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.address import UNIXAddress
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.python import usage

from twisted_smtplite.app import tap
from twisted_smtplite.app.options import Options
from twisted_smtplite.app.ports import Kind, checkLMTPEndpoint, portsOf, profileOf

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
_TOGETHER = "--client-ca and --client-certificates request or require go together"
OWN = ("--self-signed", "--self-signed-directory", "state")


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


# -- What goes together.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tls-port", "465"], "--tls-port needs a certificate: --certificate, or --self-signed for development"),
        (["--listen-tls", "tcp:465"], "--listen-tls needs a certificate: --certificate, or --self-signed for development"),
        (["--require-tls"], "--require-tls needs a certificate: --certificate, or --self-signed for development"),
        (["--certificate", "a", "--self-signed"], "--self-signed makes a certificate where there is none: leave it out, or --certificate"),
        (["--private-key", "a"], "--private-key goes with --certificate"),
        (["--self-signed-directory", "a"], "--self-signed-directory goes with --self-signed"),
        (["--client-ca", "a"], _TOGETHER),
        (["--self-signed", "--client-certificates", "require"], _TOGETHER),
        (
            ["--self-signed", "--client-certificates", "none", "--client-ca", "a"],
            _TOGETHER,
        ),
        (
            ["--client-certificates", "request", "--client-ca", "a"],
            "--client-certificates needs a certificate of the server too: --certificate, or --self-signed for development",
        ),
        (["--client-certificates", "maybe"], "--client-certificates maybe: it must be none, request or require"),
        (["--lmtp-port", "25"], "--lmtp-port 25: LMTP is never spoken on port 25"),
        (["--listen-lmtp", "tcp:25"], "--listen-lmtp tcp:25: LMTP is never spoken on port 25"),
        (["--submission-port", "x"], "--submission-port x: a whole number is needed"),
        (["--tls-port", "65536", "--self-signed"], "--tls-port 65536: a port is at most 65535"),
        (["--listen-lmtp", "unix:s", "--interface", "::1"], "--interface goes with --port: a --listen-lmtp endpoint names its own interface"),
        (["--offer", "8BITMIME"], "--offer 8BITMIME: it must be one of DSN, REQUIRETLS, DELIVERBY, MT-PRIORITY, FUTURERELEASE, RRVS"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(usage.UsageError) as raised:
        parse(*arguments)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("endpoint", ["tcp:25", "tcp6:25:interface=\\:\\:1", "tcp:port=25", "tcp:interface=127.0.0.1:port=25"])
def test_lmtp_is_never_spoken_on_port_25(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"^LMTP is never spoken on port 25$"):
        checkLMTPEndpoint(endpoint)


@pytest.mark.parametrize("endpoint", ["tcp:24", "unix:25", "tcp:x", "tcp", "systemd:domain=INET:name=lmtp"])
def test_lmtp_may_be_spoken_elsewhere(endpoint: str) -> None:
    checkLMTPEndpoint(endpoint)


def ports(*arguments: str) -> list[str]:
    options = parse(*arguments)
    return [port.name + port.service.text for port in portsOf(options, options.endpoints)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["--port 2525 on 127.0.0.1"]),
        (["--submission"], ["--port 2525 on 127.0.0.1 for submission"]),
        (["--lmtp-port", "24"], ["--lmtp-port 24 on 127.0.0.1 for LMTP"]),
        (["--self-signed", "--tls-port", "465"], ["--tls-port 465 on 127.0.0.1 for TLS"]),
        (
            ["--self-signed", "--port", "25", "--tls-port", "465", "--submission-port", "587", "--interface", "::"],
            ["--port 25 on ::", "--tls-port 465 on :: for submission with TLS", "--submission-port 587 on :: for submission"],
        ),
        (
            ["--self-signed", "--submission", "--listen", "tcp:1", "--listen", "tcp:2", "--listen-tls", "tcp:3"],
            ["--listen tcp:1 for submission", "--listen tcp:2 for submission", "--listen-tls tcp:3 for submission with TLS"],
        ),
        (
            ["--self-signed", "--listen-lmtp", "unix:s", "--listen-submission", "tcp:1", "--listen-tls", "tcp:2"],
            ["--listen-tls tcp:2 for submission with TLS", "--listen-submission tcp:1 for submission", "--listen-lmtp unix:s for LMTP"],
        ),
    ],
)
def test_each_port_has_its_purpose(arguments: list[str], expected: list[str]) -> None:
    assert ports(*arguments) == expected


def test_each_kind_of_port_has_its_profile() -> None:
    plain, submission, lmtp = (profileOf(kind, parse()) for kind in Kind)
    assert (plain.lmtp, plain.submission, plain.requireAuth, plain.requireTLS) == (False, False, False, False)
    assert (submission.lmtp, submission.submission, submission.requireAuth) == (False, True, True)
    assert (lmtp.lmtp, lmtp.submission, lmtp.requireAuth) == (True, False, False)
    assert profileOf(Kind.SMTP, parse("--self-signed", "--require-tls")).requireTLS


# -- What is heard there.


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


Make = Callable[..., Any]


@pytest.fixture
def make() -> Generator[Make, None, None]:
    services = []

    def make(*arguments: str) -> Any:
        service = tap.makeService(parse("--hostname", "localhost", *arguments))
        service.startService()
        services.append(service)
        return service

    yield make
    for service in services:
        pytest_twisted.blockon(service.stopService())


def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile="state/self-signed.crt")


@pytest.mark.parametrize("verbose", [(), ("--verbose",)], ids=["", "verbose"])
@pytest_twisted.ensureDeferred
async def test_every_port_speaks_what_it_is_for(verbose: tuple[str, ...], make: Make) -> None:
    service = make(
        "--port", "0", "--tls-port", "0", "--submission-port", "0", "--listen-lmtp", "unix:lmtp.sock", "--delivery", "maildir:M", *OWN, *verbose
    )
    plain, implicit, submission, lmtp = service.addresses
    assert isinstance(lmtp, UNIXAddress)

    def play() -> None:
        with smtplib.SMTP("localhost", plain.port, timeout=10) as client:
            client.starttls(context=trust())
            assert client.sendmail("a@client.test", ["one@mx.test"], MESSAGE) == {}
        with smtplib.SMTP_SSL("localhost", implicit.port, context=trust(), timeout=10) as client:
            assert client.mail("a@client.test") == (530, b"5.7.0 Authentication required")
        with smtplib.SMTP("localhost", submission.port, timeout=10) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            assert client.mail("a@client.test")[0] == 530
        with smtplib.LMTP(str(Path("lmtp.sock").absolute())) as client:
            assert client.ehlo("client.test")[0] == 250
            assert client.docmd("MAIL", "FROM:<a@client.test>")[0] == 250
            assert client.docmd("RCPT", "TO:<two@mx.test>")[0] == 250
            assert client.docmd("RCPT", "TO:<three@mx.test>")[0] == 250
            assert client.data(MESSAGE)[0] == 250
            assert client.getreply()[0] == 250

    await deferToThread(play)
    assert stat.S_IMODE(Path("lmtp.sock").stat().st_mode) == 0o660
    traces = [path.read_bytes().partition(b"Subject")[0] for path in sorted(Path("M/new").iterdir())]
    assert b" with ESMTPS " in traces[0] and b"\ttls TLS_" in traces[0]
    assert b" with LMTP " in traces[1] and b"\ttls " not in traces[1]


@pytest_twisted.ensureDeferred
async def test_the_wire_trace_shows_what_is_said_inside_tls(make: Make) -> None:
    service = make("--port", "0", "--delivery", "null", "--verbose", *OWN)

    def play() -> None:
        with smtplib.SMTP("localhost", service.addresses[0].port, timeout=10) as client:
            client.starttls(context=trust())
            client.sendmail("inside@client.test", ["one@mx.test"], MESSAGE)
            # An error that closes: the alert is sent under the trace too.
            assert [client.docmd("NONSENSE")[0] for _ in range(20)] == [500] * 19 + [421]
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.noop()

    with capturedLogs() as events:
        await deferToThread(play)
    shown = [event["data"] for event in events if "data" in event]
    assert any(b"mail from:<inside@client.test>" in data.lower() for data in shown)
    assert any(event.get("version") == "TLSv1.3" for event in events)
    assert not any(b"hello" in data for data in shown)


@pytest_twisted.ensureDeferred
async def test_where_tls_is_required_mail_in_clear_is_refused(make: Make) -> None:
    service = make("--port", "0", "--delivery", "null", "--require-tls", *OWN)

    def play() -> None:
        with smtplib.SMTP("localhost", service.addresses[0].port, timeout=10) as client:
            client.ehlo()
            assert client.mail("a@client.test")[0] == 530
            client.starttls(context=trust())
            client.ehlo()
            assert client.mail("a@client.test")[0] == 250

    await deferToThread(play)


@pytest_twisted.ensureDeferred
async def test_on_a_submission_port_a_certificate_is_as_good_as_a_password(make: Make) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path("ca.pem")
    authority.issue_cert("ann@client.test").private_key_and_cert_chain_pem.write_to_path("ann.pem")
    asked = ("--client-certificates", "request", "--client-ca", "ca.pem", "--auth", "certificate")
    service = make("--submission-port", "0", "--delivery", "maildir:M", *asked, *OWN)

    def play() -> None:
        port = service.addresses[0].port
        with smtplib.SMTP("localhost", port, timeout=10) as nobody:
            nobody.starttls(context=trust())
            nobody.ehlo()
            assert not nobody.has_extn("auth")
            assert nobody.mail("ann@client.test") == (530, b"5.7.0 Authentication required")
        context = trust()
        context.load_cert_chain("ann.pem")
        with smtplib.SMTP("localhost", port, timeout=10) as ann:
            ann.starttls(context=context)
            ann.ehlo()
            assert ann.esmtp_features["auth"].split() == ["EXTERNAL"]
            assert ann.docmd("AUTH", "EXTERNAL =")[0] == 235
            assert ann.sendmail("ann@client.test", ["ben@mx.test"], MESSAGE) == {}

    await deferToThread(play)
    (stored,) = Path("M/new").iterdir()
    assert b" with ESMTPSA " in stored.read_bytes()


@pytest_twisted.ensureDeferred
async def test_an_extension_can_be_offered_whatever_the_delivery_says(make: Make) -> None:
    service = make("--port", "0", "--delivery", "null", "--offer", "dsn", "--offer", "REQUIRETLS", *OWN)

    def play() -> None:
        with smtplib.SMTP("localhost", service.addresses[0].port, timeout=10) as client:
            client.ehlo()
            assert client.has_extn("dsn") and not client.has_extn("requiretls")
            client.starttls(context=trust())
            client.ehlo()
            assert client.has_extn("requiretls")
            assert client.docmd("MAIL", "FROM:<a@client.test> REQUIRETLS RET=HDRS")[0] == 250

    await deferToThread(play)


@pytest_twisted.ensureDeferred
async def test_stopping_ends_the_sessions_of_all_ports(make: Make) -> None:
    service = make("--port", "0", "--tls-port", "0", "--lmtp-port", "0", "--delivery", "null", *OWN)

    def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), 10)
        if context is not None:
            client = context.wrap_socket(client, server_hostname="localhost")
        while not client.recv(100).endswith(b"\n"):
            pass
        return client

    def rest(client: socket.socket) -> bytes:
        heard = b""
        with client:
            while piece := client.recv(100):
                heard += piece
        return heard

    contexts = (None, trust(), None)
    clients = [await deferToThread(connect, address.port, context) for address, context in zip(service.addresses, contexts, strict=True)]
    assert service.sessions == 3
    stopped = service.stopService()
    for client in clients:
        assert (await deferToThread(rest, client)).startswith(b"421 ")
    await stopped
    assert service.sessions == 0
    service.startService()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--certificate", "nowhere.pem"], r"--certificate: /.*/nowhere\.pem: No such file or directory"),
        (["--self-signed", "--self-signed-directory", "/dev/null/x"], r"--self-signed: no certificate can be kept in /dev/null/x: Not a directory"),
        (
            ["--certificate", "a", "--private-key", "b", "--private-key", "c"],
            r"--private-key: there are 2 for 1 --certificate files; none is needed where the key is in the same file",
        ),
        (["--listen-lmtp", "nosuch:1"], r"--listen-lmtp nosuch:1: this is no server endpoint: Unknown endpoint type: 'nosuch'"),
    ],
)
def test_what_cannot_be_used_ends_the_process_with_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match=rf"^smtplite: {sentence}$"):
        tap.makeService(parse("--port", "0", "--delivery", "null", *arguments))


def test_certificates_are_meant_from_the_run_directory_and_found_again_from_any_other(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("--port", "0", "--delivery", "null", *OWN)
    service = make("--port", "0", "--delivery", "null", "--certificate", "state/self-signed.pem")
    monkeypatch.chdir("/")
    (certificates,) = service
    with capturedLogs() as events:
        certificates.reload()
    assert [event["log_level"].name for event in events] == ["info"]
