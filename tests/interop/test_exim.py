"""Exim as the relaying client: over TLS that it verifies, with the text in chunks (RFC 3030), and as a user who authenticates."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from listener import MESSAGE, PASSWORD, USER, Listener, assertExact, program, run

from twisted_smtplite.model.profile import Profile

_CONFIGURATION = """
primary_hostname = client.test
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
keep_environment =
local_interfaces = 127.0.0.1
disable_ipv6
{run_as}

begin routers
server:
  driver = manualroute
  route_list = * localhost
  host_find_failed = fail
  self = send
  transport = server

begin transports
server:
  driver = smtp
  port = {port}
  hosts_require_tls = *
  tls_verify_certificates = {authority}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
  dnssec_request_domains = :
  hosts_try_dane = :
  hosts_try_prdr = {prdr}
{login}
"""
# In what it sends a circumflex stands for NUL, and an item of the list is a response.
_AUTHENTICATOR = """
  hosts_require_auth = *

begin authenticators
user:
  driver = plaintext
  public_name = {mechanism}
  client_send = {secrets}
"""


def whyNot() -> str | None:
    """Why it cannot be run here, or None."""
    found = program("exim4")
    if found is None:
        return "exim4 is not installed"
    # Debian's knows its user by name, and runs nowhere without.
    tried = subprocess.run([found, "-bV"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return "exim4 does not find its user" if b"failed to find uid" in tried.stderr else None


pytestmark = pytest.mark.skipif(whyNot() is not None, reason=whyNot() or "")
SENDER = "ann@client.test"


@pytest.fixture
def home() -> Iterator[Path]:
    # Its user must be able to go there.
    directory = Path(tempfile.mkdtemp(prefix="exim-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def relay(home: Path, port: int, authority: Path, *recipients: str, prdr: str = ":", login: str = "") -> str:
    """Lets Exim deliver `MESSAGE` in the foreground; returns its log."""
    runAs = ""
    if os.geteuid() == 0:
        user = pwd.getpwnam("Debian-exim")
        os.chown(home, user.pw_uid, user.pw_gid)
    else:
        user = pwd.getpwuid(os.geteuid())
        runAs = f"exim_user = {user.pw_uid}\nexim_group = {user.pw_gid}\ndeliver_drop_privilege"
    public = home / "authority.pem"
    shutil.copyfile(authority, public)
    configuration = home / "exim.conf"
    values = {"program": program("exim4"), "directory": home, "run_as": runAs, "port": port, "authority": public, "prdr": prdr, "login": login}
    configuration.write_text(_CONFIGURATION.format(**values))
    configuration.chmod(0o644)
    text = MESSAGE.replace(b"\r\n", b"\n")
    done = await run("exim4", "-C", configuration, "-odf", "-oi", "-f", SENDER, *recipients, content=text)
    log = home / "mainlog"
    return done.stdout.decode() + (log.read_text() if log.exists() else "")


def withoutTrace(content: bytes) -> bytes:
    """The message without the Received field that Exim puts on top."""
    field = re.match(rb"Received: from [^\r\n]* by client\.test with local \(Exim [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)+", content)
    assert field, content[:300]
    return content[field.end() :]


@pytest.mark.parametrize("prdr", [False, True])
@pytest_twisted.ensureDeferred
async def test_exim_relays_over_verified_tls_in_chunks(prdr: bool, home: Path, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve()
    log = await relay(home, listener.port, authorities["ours"], "ben@mx.test", "cleo@mx.test", prdr="*" if prdr else ":")
    assert len(listener.delivery.messages) == 1, log
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content))
    assert (str(message.envelope.sender), {str(each.address) for each in message.envelope.recipients}) == (SENDER, {"ben@mx.test", "cleo@mx.test"})
    assert message.envelope.prdr is prdr
    heard = b"".join(listener.reads)
    # RFC 2920, RFC 3030: it does not wait for the answers to the envelope before the first chunk.
    assert any(re.match(rb"MAIL FROM:.*\r\nRCPT TO:.*\r\nRCPT TO:.*\r\nBDAT \d+\r\n", read) for read in listener.reads), listener.reads
    assert re.search(rb"^BDAT \d+ LAST\r$", heard, re.MULTILINE)
    assert not re.search(rb"^DATA\r$", heard, re.MULTILINE)
    assert message.session.protocol == "ESMTPS"
    assert re.search(r"=> ben@mx\.test .* CV=yes .* C=\"250", log), log
    assert "Completed" in log


@pytest_twisted.ensureDeferred
async def test_exim_that_does_not_know_the_authority_keeps_the_message(
    home: Path, serve: Callable[..., Listener], authorities: dict[str, Path]
) -> None:
    listener = serve()
    log = await relay(home, listener.port, authorities["strangers"], "ben@mx.test")
    assert re.search(r"== ben@mx\.test .*certificate verification failed", log), log
    assert b"MAIL" not in b"".join(listener.reads)
    assert listener.contents == []


@pytest.mark.parametrize(("mechanism", "secrets"), [("PLAIN", f"^{USER}^{PASSWORD}"), ("LOGIN", f": {USER} : {PASSWORD}")], ids=["plain", "login"])
@pytest_twisted.ensureDeferred
async def test_exim_authenticates(mechanism: str, secrets: str, home: Path, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve(profile=Profile(requireAuth=True, mechanisms=("PLAIN", "LOGIN")))
    login = _AUTHENTICATOR.format(mechanism=mechanism, secrets=secrets)
    log = await relay(home, listener.port, authorities["ours"], "ben@mx.test", login=login)
    assert len(listener.delivery.messages) == 1, log
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content))
    session = message.session
    assert (session.user, session.mechanism, session.protocol) == (USER, mechanism, "ESMTPSA")
    assert re.search(r"=> ben@mx\.test .* CV=yes A=user .* C=\"250", log), log


@pytest_twisted.ensureDeferred
async def test_exim_with_a_wrong_password_sends_nothing(home: Path, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve(profile=Profile(requireAuth=True, mechanisms=("PLAIN",)))
    login = _AUTHENTICATOR.format(mechanism="PLAIN", secrets=f"^{USER}^wrong")
    log = await relay(home, listener.port, authorities["ours"], "ben@mx.test", login=login)
    assert re.search(r"user authenticator failed .* 535 5\.7\.8", log), log
    assert b"MAIL" not in b"".join(listener.reads)
    assert listener.contents == []
