"""Certificates that change while two hundred clients send mail: nobody is dropped, nothing is lost."""

from __future__ import annotations

import smtplib
import ssl
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from twisted_smtplite.app.certificates import Certificates, sourcesIn
from twisted_smtplite.app.messagelog import MessageLog
from twisted_smtplite.app.service import SMTPService
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor
AUTHORITY = trustme.CA()
THREADS, SESSIONS, SWAPS = 10, 20, 20


class Sender:
    """A thread's clients: some that stay, and a new one in each round."""

    def __init__(self, port: int, number: int) -> None:
        self.port = port
        self.number = number
        self.sent: list[str] = []
        self.seen: set[int] = set()
        self.context = ssl.create_default_context()
        AUTHORITY.configure_trust(self.context)

    def connect(self) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.port, timeout=30)
        client.starttls(context=self.context)
        socket: Any = client.sock
        self.seen.add(int(socket.getpeercert()["serialNumber"], 16))
        return client

    def send(self, client: smtplib.SMTP) -> None:
        subject = f"{self.number}-{len(self.sent)}"
        client.sendmail("ann@client.test", ["ben@mx.test"], f"Subject: {subject}\r\n\r\nhello\r\n")
        self.sent.append(subject)

    def run(self, over: Event) -> Sender:
        staying = [self.connect() for _ in range(SESSIONS)]
        while not over.is_set():
            with self.connect() as passing:
                self.send(passing)
            for client in staying:
                self.send(client)
        for client in staying:
            # Each has been there all the time.
            self.send(client)
            client.quit()
        return self


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest_twisted.ensureDeferred
async def test_certificates_change_under_load_and_nobody_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "mx.pem"

    def swap() -> None:
        new = AUTHORITY.issue_cert("localhost")
        path.write_bytes(new.private_key_pem.bytes() + b"".join(pem.bytes() for pem in new.cert_chain_pems))

    swap()
    delivery = MemoryDelivery(maxMessages=1_000_000)
    certificates = Certificates(sourcesIn([path], []), reactor)
    factory = SMTPServerFactory(delivery, reactor, hostname="mx.test", tls=certificates, observer=MessageLog())
    service = SMTPService(factory, [TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")], certificates)
    service.startService()
    port: int = service.addresses[0].port  # type: ignore[attr-defined]
    over = Event()
    pool = ThreadPool(THREADS, THREADS)
    pool.start()
    try:
        with capturedLogs() as events:
            running = [deferToThreadPool(reactor, pool, Sender(port, number).run, over) for number in range(THREADS)]
            while service.sessions < THREADS * SESSIONS:
                await deferLater(reactor, 0.05)
            for _ in range(SWAPS):
                before = len(delivery.messages)
                await deferToThread(swap)
                certificates.look()
                # So many that one thread at least has begun a session meanwhile.
                while len(delivery.messages) < before + THREADS * (SESSIONS + 2):
                    await deferLater(reactor, 0.05)
            over.set()
            senders: list[Sender] = await gatherResults(running)
            while service.sessions:
                await deferLater(reactor, 0.05)
    finally:
        over.set()
        pool.stop()
        await service.stopService()
    sent = Counter(subject for sender in senders for subject in sender.sent)
    assert Counter(str(message.headers["subject"]) for message in (stored.message for stored in delivery.messages)) == sent
    assert len(set[int]().union(*(sender.seen for sender in senders))) >= SWAPS
    lines = [str(event.get("line", "")) for event in events]
    assert sum("New certificates are in use" in str(event["log_format"]) for event in events) == SWAPS
    assert not [line for line in lines if line.startswith("broken-session")]
