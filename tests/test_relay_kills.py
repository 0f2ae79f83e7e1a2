"""A relay that is killed again and again while mail passes: nothing is lost, every failure is told, and what comes twice is in the log.

Messages are named, and each try of the sender to hand one in is numbered: what the relay took twice because its own 250 was lost is no double.
"""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from serverprocess import PATIENCE, Client

from twisted_smtplite.queue.admin import Administration, Choice

SCRIPT = Path(__file__).parent / "relayprocess.py"
KINDS = (("ann@mx.test",), ("ann@mx.test", "nobody@mx.test"), ("ann@mx.test", "later-{}@mx.test"), ("nobody@mx.test",), ("later-{}@mx.test",))


@contextmanager
def process(log: IO[bytes], *arguments: object) -> Generator[tuple[subprocess.Popen[bytes], int], None, None]:
    """One of the programs, and its port."""
    started = subprocess.Popen([sys.executable, SCRIPT, *map(str, arguments)], stdout=subprocess.PIPE, stderr=log)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line, "it did not start"
        yield started, int(line)
    finally:
        started.kill()
        started.wait()


class Sender(threading.Thread):
    """Hands in messages until each is taken, however often the relay dies; no faster than the relay is killed."""

    def __init__(self, port: int, number: int, most: int, kills: int, killed: list[int]) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._number = number
        self._most = most
        self._every = most / kills
        self._killed = killed
        self._rng = random.Random(number)
        self.promised: dict[str, list[str]] = {}

    def run(self) -> None:
        tries = 0
        left = list(range(self._most))
        while left:
            try:
                with Client(socket.create_connection(("127.0.0.1", self._port), PATIENCE)) as client:
                    client.reply()
                    client.ask(b"EHLO client.test\r\n")
                    while left:
                        if left[0] > len(self._killed) * self._every + self._every:
                            time.sleep(0.01)
                            continue
                        tries += 1
                        if not self._one(client, left[0], tries):
                            break
                        left.pop(0)
            except OSError:
                time.sleep(0.05)

    def _one(self, client: Client, number: int, tries: int) -> bool:
        name = f"{self._number}-{number}-{tries}"
        recipients = [address.format(name) for address in KINDS[number % len(KINDS)]]
        client.say(b"MAIL FROM:<ann@client.test>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % address.encode() for address in recipients) + b"DATA\r\n")
        if [client.reply()[:3] for _ in range(len(recipients) + 2)][-1] != b"354":
            return False
        text = f"Message-ID: <{name}@client.test>\r\nSubject: {name}\r\n\r\n".encode() + b"x" * self._rng.choice([100, 3000, 300_000])
        if not client.ask(text + b"\r\n.\r\n").startswith(b"250 "):
            return False
        self.promised[name] = recipients
        return True


class Arrived(NamedTuple):
    """What the next server got.

    Attributes:
        copies: how often, by name and recipient.
        reports: the names of the reports about each message, and the recipients of whom they tell.
        ids: the queue id of each name.
    """

    copies: Counter[tuple[str, str]]
    reports: dict[str, set[tuple[str, str]]]
    ids: dict[str, str]


def arrivedIn(folder: Path) -> Arrived:
    arrived = Arrived(Counter(), {}, {})
    for line in (folder / "arrived").read_text().splitlines():
        message = json.loads(line)
        text = message["text"]
        about = re.search(r"^In-Reply-To: <(\S+)@client\.test>", text, re.MULTILINE)
        if about:
            name = re.search(r"^Message-ID: (\S+)", text, re.MULTILINE)
            assert name
            told = re.findall(r"^Final-Recipient: rfc822; (\S+)\r\nAction: failed", text, re.MULTILINE)
            arrived.reports.setdefault(about[1], set()).update((name[1], address) for address in told)
        else:
            found = re.search(r"^\tby relay\.test with ESMTP id (\w+)(?:.|\n)*?^Subject: (\S+)", text, re.MULTILINE)
            assert found, text[:500]
            arrived.ids[found[2]] = found[1]
            arrived.copies.update((found[2], address) for address in message["recipients"])
    return arrived


def isEmpty(folder: Path) -> bool:
    administration = Administration(str(folder / "queue"))
    try:
        return next(administration.messages(Choice()), None) is None
    finally:
        administration.close()


def killAgainAndAgain(folder: Path, kills: int, messages: int, life: float) -> Counter[str]:
    """Sends messages through a relay that lives no longer than `life` seconds each time. Returns what was counted."""
    counted: Counter[str] = Counter()
    killed: list[int] = []
    (folder / "arrived").touch()
    with (folder / "relay.log").open("ab") as log, process(log, "collect", folder) as (_, following):
        senders: list[Sender] = []
        port = 0
        for number in range(kills):
            with process(log, "relay", folder / "queue", port, following) as (relay, port):
                if not senders:
                    senders = [Sender(port, number, messages // 4, kills, killed) for number in range(4)]
                    for sender in senders:
                        sender.start()
                time.sleep(life)
                relay.send_signal(signal.SIGKILL)
            killed.append(number)
        with process(log, "relay", folder / "queue", port, following) as (relay, _):
            killed += range(kills)
            for sender in senders:
                sender.join()
            end = time.monotonic() + 10 * PATIENCE
            while not isEmpty(folder):
                assert relay.poll() is None and time.monotonic() < end, (folder / "relay.log").read_text()[-3000:]
                time.sleep(0.2)
            relay.send_signal(signal.SIGTERM)
            relay.wait(PATIENCE)
    promised = {name: recipients for sender in senders for name, recipients in sender.promised.items()}
    text = (folder / "relay.log").read_text()
    assert "Traceback" not in text
    check(promised, arrivedIn(folder), text, counted)
    counted["kills"] = kills
    return counted


def check(promised: dict[str, list[str]], arrived: Arrived, log: str, counted: Counter[str]) -> None:
    for name, recipients in promised.items():
        for address in recipients:
            if address.startswith("nobody@"):
                told = [report for report, whom in arrived.reports.get(name, set()) if whom == address]
                assert len(told) == 1, f"{name} has failed for {address}, and is reported {len(told)} times"
                counted["failures"] += 1
            else:
                assert arrived.copies[name, address], f"{name} for {address} was promised and is lost"
                counted["arrived"] += 1
    doubtful = set(re.findall(r"^\S+ \S+ sent id=(\w+) .* again=", log, re.MULTILINE))
    for (name, _), copies in arrived.copies.items():
        if copies > 1:
            counted["doubles"] += copies - 1
            assert arrived.ids[name] in doubtful, f"{name} came {copies} times, and the log does not say why"
    counted["messages"] = len(promised)
    counted["doubtful"] = len(doubtful)


def test_a_relay_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    counted = killAgainAndAgain(tmp_path, 2, 40, 0.2)
    assert counted["messages"] >= 40 and counted["failures"] >= 16


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_relay_that_is_killed_every_second_for_a_minute_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted = killAgainAndAgain(tmp_path, 60, 2000, 1.0)
    with capsys.disabled():
        print(f"\n{dict(counted)}")
    assert counted["messages"] >= 2000
