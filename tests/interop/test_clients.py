"""What people send mail with: smtplib, swaks, curl and msmtp, over TLS that they verify, by every mechanism of AUTH that they know."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytest_twisted
from listener import MESSAGE, PASSWORD, USER, Listener, assertExact, program, run
from twisted.internet.threads import deferToThread

from twisted_smtplite.model.profile import Profile

SENDER, RECIPIENT = "ann@client.test", "ben@mx.test"
PROFILE = Profile(requireTLS=True, requireAuth=True, mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"))
KNOWS = {
    "smtplib": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "swaks": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "curl": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "msmtp": ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"),
}
"""The mechanisms that we have in common with each client."""


def _swaks(port: int, implicit: bool, mechanism: str, password: str, authority: Path, message: Path) -> list[str]:
    return [
        *("swaks", "--server", f"localhost:{port}", "--ehlo", "client.test", "--from", SENDER, "--to", RECIPIENT, "--data", f"@{message}"),
        *("--tls-on-connect" if implicit else "--tls", "--tls-verify", "--tls-ca-path", str(authority)),
        *("--auth", mechanism, "--auth-user", USER, "--auth-password", password),
    ]


def _curl(port: int, implicit: bool, mechanism: str, password: str, authority: Path, message: Path) -> list[str]:
    return [
        *(
            "curl",
            "--silent",
            "--show-error",
            "--url",
            f"smtp{'s' * implicit}://localhost:{port}/client.test",
            "--ssl-reqd",
            "--cacert",
            str(authority),
        ),
        *("--user", f"{USER}:{password}", "--login-options", f"AUTH={mechanism}"),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(message)),
    ]


def _msmtp(port: int, implicit: bool, mechanism: str, password: str, authority: Path, message: Path) -> list[str]:
    # A password that only exists in a configuration file would have to be kept from other users: it is asked of a command.
    return [
        *(
            "msmtp",
            "--host=localhost",
            f"--port={port}",
            "--domain=client.test",
            f"--from={SENDER}",
            "--set-from-header=off",
            "--set-date-header=off",
        ),
        *("--tls=on", f"--tls-starttls={'off' if implicit else 'on'}", f"--tls-trust-file={authority}"),
        *(f"--auth={mechanism.lower()}", f"--user={USER}", f"--passwordeval=printf %s '{password}'", RECIPIENT),
    ]


COMMANDS: dict[str, Callable[[int, bool, str, str, Path, Path], list[str]]] = {"swaks": _swaks, "curl": _curl, "msmtp": _msmtp}


def _bySMTPlib(port: int, implicit: bool, mechanism: str, password: str, authority: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    client = smtplib.SMTP_SSL("localhost", port, "client.test", context=context) if implicit else smtplib.SMTP("localhost", port, "client.test")
    with client:
        if not implicit:
            client.starttls(context=context)
        client.ehlo()
        client.user, client.password = USER, password
        client.auth(mechanism, getattr(client, f"auth_{mechanism.lower().replace('-', '_')}"))
        client.sendmail(SENDER, [RECIPIENT], MESSAGE, ["BODY=8BITMIME"])


def asFile(client: str) -> bytes:
    """`MESSAGE` as a client wants to read it."""
    if client == "curl":
        return MESSAGE
    text = MESSAGE.replace(b"\r\n", b"\n")
    # swaks ends the last line itself.
    return text.removesuffix(b"\n") if client == "swaks" else text


async def send(
    client: str, listener: Listener, authority: Path, directory: Path, *, implicit: bool, mechanism: str = "PLAIN", password: str = PASSWORD
) -> str | None:
    """Lets a client send `MESSAGE`; returns why it could not."""
    if client == "smtplib":
        try:
            await deferToThread(_bySMTPlib, listener.port, implicit, mechanism, password, authority)
        except (smtplib.SMTPException, ssl.SSLError) as error:
            return str(error)
        return None
    message = directory / "message"
    message.write_bytes(asFile(client))
    command = COMMANDS[client](listener.port, implicit, mechanism, password, authority, message)
    done = await run(*command, content=message.read_bytes() if client == "msmtp" else b"")
    return done.stdout.decode(errors="replace") if done.returncode else None


def needed(client: str) -> list[pytest.MarkDecorator]:
    absent = client in COMMANDS and program(client) is None
    return [pytest.mark.skipif(absent, reason=f"{client} is not installed")]


CLIENTS = [pytest.param(client, marks=needed(client), id=client) for client in KNOWS]
PAIRS = [pytest.param(client, mechanism, marks=needed(client), id=f"{client} {mechanism}") for client, known in KNOWS.items() for mechanism in known]
WAYS = pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])


@WAYS
@pytest.mark.parametrize(("client", "mechanism"), PAIRS)
@pytest_twisted.ensureDeferred
async def test_a_user_hands_in_mail(
    client: str, mechanism: str, implicit: bool, serve: Callable[..., Listener], authorities: dict[str, Path], tmp_path: Path
) -> None:
    if mechanism.startswith("SCRAM") and find_spec("scramp") is None:
        pytest.skip("scramp is not installed")
    listener = serve(implicit=implicit, profile=PROFILE)
    assert await send(client, listener, authorities["ours"], tmp_path, implicit=implicit, mechanism=mechanism) is None
    (message,) = listener.delivery.messages
    assertExact(message.content)
    assert (str(message.envelope.sender), [str(each.address) for each in message.envelope.recipients]) == (SENDER, [RECIPIENT])
    session = message.session
    assert (session.protocol, session.user, session.mechanism) == ("ESMTPSA", USER, mechanism)
    assert session.tlsVersion == "TLSv1.3"


@WAYS
@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_know_the_authority_tells_us_nothing(
    client: str, implicit: bool, serve: Callable[..., Listener], authorities: dict[str, Path], tmp_path: Path
) -> None:
    listener = serve(implicit=implicit, profile=PROFILE)
    assert "ertificate" in (await send(client, listener, authorities["strangers"], tmp_path, implicit=implicit) or "")
    assert b"AUTH" not in b"".join(listener.reads) and listener.contents == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_told_to_the_user(
    client: str, serve: Callable[..., Listener], authorities: dict[str, Path], tmp_path: Path
) -> None:
    listener = serve(profile=PROFILE)
    failure = await send(client, listener, authorities["ours"], tmp_path, implicit=False, password="wrong")
    assert failure is not None and ("535" in failure or client == "curl"), failure
    assert listener.contents == []
