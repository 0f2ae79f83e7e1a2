"""The certificate that the server signs itself: made once, kept, trusted by those who are told to."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography import x509
from twisted.internet import reactor as globalReactor
from twisted.internet.threads import deferToThread

from twisted_smtplite.app.certificates import Certificates, namesOf, sourcesIn
from twisted_smtplite.app.selfsigned import selfSigned, stateDirectory
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.tls import implicitTLS

reactor: Any = globalReactor


def test_a_certificate_of_ones_own_is_made_once_for_this_host_and_loopback(tmp_path: Path) -> None:
    first = selfSigned(tmp_path / "state" / "smtplite", "mx.test")
    whole, public = first
    content = whole.read_bytes()
    assert stat.S_IMODE(whole.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" not in public.read_bytes()
    certificate = x509.load_pem_x509_certificate(public.read_bytes())
    assert namesOf(certificate) == ["mx.test", "localhost"]
    addresses = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "::1"]
    public.unlink()
    assert selfSigned(tmp_path / "state" / "smtplite", "mx.test") == first
    assert whole.read_bytes() == content
    assert public.exists()
    assert sorted(path.name for path in whole.parent.iterdir()) == ["self-signed.crt", "self-signed.pem"]


@pytest.mark.parametrize("reason", ["another name", "too old", "torn", "somebody else's"])
def test_it_is_made_anew_where_it_would_not_do(reason: str, tmp_path: Path) -> None:
    then = datetime.now(timezone.utc) - timedelta(days=340 if reason == "too old" else 1)
    whole, public = selfSigned(tmp_path, "mx.test", then)
    before = whole.read_bytes()
    if reason == "torn":
        whole.write_bytes(before[:100])
    elif reason == "somebody else's":
        whole.write_bytes(trustme.CA().cert_pem.bytes())
    selfSigned(tmp_path, "other.test" if reason == "another name" else "mx.test")
    assert whole.read_bytes() != before
    assert public.read_bytes() in whole.read_bytes()


def test_the_host_names_itself_where_nobody_does(tmp_path: Path) -> None:
    _, public = selfSigned(tmp_path, "")
    assert namesOf(x509.load_pem_x509_certificate(public.read_bytes())) == [*dict.fromkeys([socket.gethostname().lower(), "localhost"])]
    _, public = selfSigned(tmp_path / "literal", "[192.0.2.1]")
    assert namesOf(x509.load_pem_x509_certificate(public.read_bytes())) == ["localhost"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/mail:/var/lib/other"}, "/var/lib/mail"),
        ({"XDG_STATE_HOME": "/home/ann/state"}, "/home/ann/state/smtplite"),
        ({"HOME": "/home/ann"}, "/home/ann/.local/state/smtplite"),
    ],
)
def test_it_is_kept_where_state_belongs(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(stateDirectory()) == expected


@pytest_twisted.ensureDeferred
async def test_clients_that_verify_strictly_take_it_once_they_trust_it(tmp_path: Path) -> None:
    whole, public = selfSigned(tmp_path, "mx.test")
    certificates = Certificates(sourcesIn([whole], []), reactor)
    listening = reactor.listenTCP(0, implicitTLS(SMTPServerFactory(MemoryDelivery(), reactor), certificates, reactor), interface="127.0.0.1")
    port = listening.getHost().port
    context = ssl.create_default_context(cafile=os.fspath(public))
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    def play(name: str) -> bytes:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name) as inside:
            return inside.recv(4)

    for name in ("mx.test", "localhost", "127.0.0.1"):
        assert await deferToThread(play, name) == b"220 "
    await listening.stopListening()
