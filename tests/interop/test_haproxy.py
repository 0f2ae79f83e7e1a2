"""A real proxy in front of the real server: HAProxy, by every form of the header that it sends."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
# The client's own address. The proxy connects from 127.0.0.1.
CLIENT = "127.0.0.9"
MESSAGE = "Subject: behind a proxy\r\n\r\ntext\r\n"
FORMS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority check check-send-proxy inter 500ms",
    "tls": "send-proxy-v2-ssl-cn proxy-v2-options crc32c,ssl,cert-cn,ssl-cipher,authority",
}


class Proxied(NamedTuple):
    """The ports of the proxy by form, and where the mail goes."""

    ports: dict[str, int]
    directory: Path

    def stored(self) -> list[str]:
        return [path.read_text() for path in (self.directory / "Maildir" / "new").glob("*")]


def freePorts(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def certificate(name: str) -> bytes:
    """A key, and a certificate of its own for it, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + made.public_bytes(serialization.Encoding.PEM)


def configuration(directory: Path, ports: dict[str, int], server: int) -> str:
    lines = ["defaults", "mode tcp", "timeout connect 5s", "timeout client 30s", "timeout server 30s"]
    for form, options in FORMS.items():
        tls = f" ssl crt {directory}/mx.pem ca-file {directory}/client.pem verify optional" if form == "tls" else ""
        lines += [f"listen {form}", f"bind 127.0.0.1:{ports[form]}{tls}", "unique-id-format %ci:%cp", f"server here 127.0.0.1:{server} {options}"]
    return "\n".join(lines) + "\n"


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1, (CLIENT, 0)).close()
    except OSError:
        return False
    return True


def waitFor(port: int) -> None:
    """Waits, half a minute at most, until somebody listens."""
    for _ in range(300):
        if listens(port):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on port {port}")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("haproxy")
    server, *free = freePorts(1 + len(FORMS))
    ports = dict(zip(FORMS, free, strict=True))
    for name in ("mx", "client"):
        (directory / f"{name}.pem").write_bytes(certificate(f"{name}.test"))
    (directory / "haproxy.cfg").write_text(configuration(directory, ports, server))
    command = [sys.executable, "-m", "twisted_smtplite", "--port", str(server), "--trusted-proxy", "127.0.0.1", "--hostname", "mx.test"]
    with (directory / "log").open("wb") as log:
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(subprocess.Popen(command, cwd=directory, stdout=log, stderr=log))
            waitFor(server)
            started.append(subprocess.Popen([str(HAPROXY), "-db", "-f", "haproxy.cfg"], cwd=directory, stdout=log, stderr=log))
            for port in free:
                waitFor(port)
            yield Proxied(ports, directory)
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(20)


def send(client: smtplib.SMTP, marker: str) -> None:
    client.sendmail("a@client.test", ["b@mx.test"], MESSAGE.replace("text", marker))
    client.quit()


def received(proxied: Proxied, marker: str) -> str:
    """The Received field of the message with this text."""
    (message,) = [text for text in proxied.stored() if marker in text]
    return message


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_the_client_behind_the_proxy_is_the_one_in_the_trace_header(proxied: Proxied, form: str) -> None:
    client = smtplib.SMTP("127.0.0.1", proxied.ports[form], "client.test", 20, (CLIENT, 0))
    send(client, f"marker {form}")
    assert re.search(rf"Received: from client\.test \(\[{re.escape(CLIENT)}\]\)\n\tby mx\.test with ESMTP id ", received(proxied, f"marker {form}"))


@pytest.mark.parametrize("identified", [False, True])
def test_tls_that_ends_at_the_proxy_is_the_tls_of_the_session(proxied: Proxied, identified: bool) -> None:
    context = ssl.create_default_context(cafile=str(proxied.directory / "mx.pem"))
    if identified:
        context.load_cert_chain(proxied.directory / "client.pem")
    connection = socket.create_connection(("127.0.0.1", proxied.ports["tls"]), 20, (CLIENT, 0))
    client = smtplib.SMTP(local_hostname="client.test", timeout=20)
    client.sock = context.wrap_socket(connection, server_hostname="mx.test")
    assert client.getreply()[0] == 220
    client.ehlo()
    assert not client.has_extn("starttls")
    send(client, f"marker tls {identified}")
    assert re.search(rf"\(\[{re.escape(CLIENT)}\]\)\n\tby mx\.test with ESMTPS id ", received(proxied, f"marker tls {identified}"))


def test_the_proxy_s_own_checks_are_no_trouble(proxied: Proxied) -> None:
    time.sleep(1.2)
    log = (proxied.directory / "log").read_text()
    assert "is DOWN" not in log, log
    assert "was ended" not in log, log
