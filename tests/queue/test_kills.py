"""kill -9 at any moment: what the relay has answered 250 is in the queue, and reaches the next server at least once."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from serverprocess import running
from storeprobes import STORES, nameOf
from test_crash import Stream

from twisted_smtplite.queue.admin import Administration, Choice, NoQueue

STREAMS = 6


def inQueue(directory: Path) -> set[str]:
    """The names of the messages in the queue. All must be whole."""
    try:
        administration = Administration(str(directory / "queue"))
    except NoQueue:
        return set()
    try:
        # One that leaves while this looks has no text any more.
        texts = [text for message in administration.messages(Choice()) if (text := administration.text(message.id)) is not None]
        names = [nameOf(text.replace(b"\r\n", b"\n")) for text in texts]
        assert len(names) == len(set(names))
        return set(names)
    finally:
        administration.close()


def arrived(directory: Path) -> Counter[str]:
    return Counter(nameOf(stored) for stored in STORES["maildir"].visible(directory))


def killOnce(directory: Path, seed: int, port: int, *, most: int = 100_000, least: float = 0.0) -> set[str]:
    """Kills a relay at a random moment under load. Returns what it had promised."""
    rng = random.Random(seed)
    with running(directory, "--delivery", f"relay:localhost:{port}?queue={directory}/queue&networks=127.0.0.0/8") as server:
        streams = [Stream(server, f"k{seed}-s{number}", seed, most=most) for number in range(STREAMS)]
        for stream in streams:
            stream.start()
        while not any(stream.promised for stream in streams):
            assert any(stream.is_alive() for stream in streams), (directory / "server.log").read_text()
            time.sleep(0.001)
        time.sleep(least + rng.random() * 0.3)
        server.process.kill()
        for stream in streams:
            stream.join()
    return set().union(*(stream.promised for stream in streams))


def killAgainAndAgain(directory: Path, times: int) -> None:
    promised: set[str] = set()
    for seed in range(times):
        # Nobody listens at port 1: all of it stays.
        promised |= killOnce(directory, seed, 1)
        assert not promised - inQueue(directory), f"promised and lost at kill {seed}"
    assert len(promised) >= times


def test_what_was_answered_250_is_in_the_queue_after_kills(tmp_path: Path) -> None:
    killAgainAndAgain(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_answered_250_is_in_the_queue_after_forty_kills(tmp_path: Path) -> None:
    for place in range(4):
        directory = tmp_path / str(place)
        directory.mkdir()
        killAgainAndAgain(directory, 10)


def passThrough(directory: Path, times: int) -> Counter[str]:
    """Kills the relay while it takes mail and sends it on, then lets it finish. Returns how often each message has arrived."""
    following, relay = directory / "following", directory / "relay"
    following.mkdir(parents=True)
    relay.mkdir()
    promised: set[str] = set()
    with running(following, "--delivery", f"maildir:{following}/mail", "--max-connections-per-address", "0") as server:
        for seed in range(times):
            promised |= killOnce(relay, seed, server.port, most=40, least=0.3)
        with running(relay, "--delivery", f"relay:localhost:{server.port}?queue={relay}/queue&networks=127.0.0.0/8"):
            while inQueue(relay):
                time.sleep(0.05)
        assert list((relay / "queue" / "bodies").iterdir()) == []
    found = arrived(following)
    assert not promised - set(found), "promised and lost"
    return found


def test_what_was_answered_250_reaches_the_next_server_although_the_relay_is_killed(tmp_path: Path) -> None:
    # A message is doubled when the relay dies between the other's 250 and its own record of it: no more than are in flight, at each kill.
    assert sum(passThrough(tmp_path, 2).values()) > STREAMS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_answered_250_reaches_the_next_server_although_the_relay_is_killed_again_and_again(tmp_path: Path) -> None:
    found = passThrough(tmp_path, 30)
    doubles = sum(found.values()) - len(found)
    # Four connections of eight messages each.
    assert doubles <= 30 * 32


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_several_workers_one_sends_and_another_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    following, relay = tmp_path / "following", tmp_path / "relay"
    following.mkdir()
    relay.mkdir()
    with running(following, "--delivery", f"maildir:{following}/mail") as server:
        delivery = f"relay:localhost:{server.port}?queue={relay}/queue&networks=127.0.0.0/8"
        with running(relay, "--workers", "2", "--delivery", delivery) as workers:
            log = relay / "server.log"
            for number in range(4):
                stream = Stream(workers, f"w{number}", number, most=10)
                stream.start()
                stream.join()
                while not stream.promised <= set(arrived(following)):
                    time.sleep(0.05)
                senders = re.findall(r"worker=(\d+) sent ", log.read_text())
                (process,) = re.findall(rf"Worker {senders[-1]} \(process (\d+)\) is ready", log.read_text())[-1:]
                os.kill(int(process), signal.SIGKILL)
                while f"(process {process}) ended" not in log.read_text():
                    time.sleep(0.05)
            workers.process.send_signal(signal.SIGTERM)
            workers.process.wait(60)
    assert log.read_text().count("did not end as it should") >= 3
