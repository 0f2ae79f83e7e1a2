"""What was answered 250 is safe: kill -9 at any moment, and the order of the system calls.

Every message is signed, so half a message cannot pass for one. A server that is killed is started again in the same place.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serverprocess import PATIENCE, Server, running
from storeprobes import STORES, Store, signed, visibleNames

everyStore = pytest.mark.parametrize("store", STORES.values(), ids=STORES)
SIZES = (100, 5_000, 400_000)
"""Octets: messages that are held in memory, and one that goes to its file while it arrives."""


class Stream(threading.Thread):
    """Sends one message after the other until the server dies or enough is sent, and remembers which ones were promised to be safe."""

    def __init__(self, server: Server, name: str, seed: object, most: int = 100_000, sizes: tuple[int, ...] = SIZES) -> None:
        super().__init__()
        self._server = server
        self._name = name
        self._rng = random.Random(f"{seed} {name}")
        self._most = most
        self._sizes = sizes
        self.promised: set[str] = set()

    def run(self) -> None:
        try:
            with self._server.connect() as client:
                client.reply()
                client.ask(b"EHLO client.test\r\n")
                for number in range(self._most):
                    name = f"{self._name}-{number}"
                    client.say(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n")
                    assert [client.reply()[:4] for _ in range(3)] == [b"250 ", b"250 ", b"354 "]
                    if client.ask(signed(name, self._rng.choice(self._sizes)) + b".\r\n").startswith(b"250 "):
                        self.promised.add(name)
        except (OSError, AssertionError):
            return


def _killInTheMiddle(store: Store, directory: Path, seed: int) -> set[str]:
    """Kills a server at a random moment under load. Returns what it had promised."""
    rng = random.Random(seed)
    with running(directory, "--delivery", store.spec(directory)) as server:
        streams = [Stream(server, f"k{seed}-s{number}", seed) for number in range(6)]
        for stream in streams:
            stream.start()
        while not any(stream.promised for stream in streams):
            assert any(stream.is_alive() for stream in streams), (directory / "server.log").read_text()
            time.sleep(0.001)
        time.sleep(rng.random() * 0.3)
        server.process.kill()
        for stream in streams:
            stream.join()
    return set().union(*(stream.promised for stream in streams))


def _killAgainAndAgain(store: Store, directory: Path, times: int) -> None:
    promised: set[str] = set()
    for seed in range(times):
        promised |= _killInTheMiddle(store, directory, seed)
        missing = promised - visibleNames(store, directory)
        assert not missing, f"promised and lost at kill {seed}: {missing}"
    assert len(promised) >= times
    # What was on its way when the last one died goes away: at the start, or after the time that the convention wants (Maildir).
    with running(directory, "--delivery", store.spec(directory)):
        if store is STORES["sqlite"]:
            assert store.leftovers(directory) == []


@everyStore
def test_what_was_answered_250_survives_kills(tmp_path: Path, store: Store) -> None:
    _killAgainAndAgain(store, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@everyStore
def test_what_was_answered_250_survives_a_hundred_kills(tmp_path: Path, store: Store) -> None:
    # In ten places: each kill looks at all that is there.
    for place in range(10):
        directory = tmp_path / str(place)
        directory.mkdir()
        _killAgainAndAgain(store, directory, 10)
        shutil.rmtree(directory)


@everyStore
def test_a_clean_stop_keeps_what_was_promised_and_leaves_nothing(tmp_path: Path, store: Store) -> None:
    with running(tmp_path, "--delivery", store.spec(tmp_path), "--drain-time", "0.2") as server:
        streams = [Stream(server, f"s{number}", 1) for number in range(6)]
        for stream in streams:
            stream.start()
        while sum(len(stream.promised) for stream in streams) < 20:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            stream.join()
        server.process.wait(PATIENCE)
    promised = set().union(*(stream.promised for stream in streams))
    assert not promised - visibleNames(store, tmp_path)
    assert store.leftovers(tmp_path) == []


def test_an_export_beside_a_running_server_has_all_that_was_promised_before(tmp_path: Path) -> None:
    store = STORES["sqlite"]
    with running(tmp_path, "--delivery", store.spec(tmp_path)) as server:
        streams = [Stream(server, f"s{number}", 2, most=30) for number in range(4)]
        for stream in streams:
            stream.start()
        while sum(len(stream.promised) for stream in streams) < 20:
            time.sleep(0.01)
        before = set().union(*(stream.promised for stream in streams))
        command = [sys.executable, "-m", "twisted_smtplite", "export", str(tmp_path / "mail.db"), "maildir", str(tmp_path / "mail")]
        subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
        for stream in streams:
            stream.join()
    assert not before - visibleNames(STORES["maildir"], tmp_path)
    assert sum(len(stream.promised) for stream in streams) == 120


# ---- The order of the system calls.


class Trace:
    """What a traced server did, in order, from the output of strace: (call, arguments, True when it is finished)."""

    _WHOLE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)$")
    _RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>")

    def __init__(self, text: str) -> None:
        self.events: list[tuple[str, str, bool]] = []
        open_: dict[str, str] = {}
        for line in text.splitlines():
            if resumed := self._RESUMED.match(line):
                self.events.append((resumed["call"], open_.pop(resumed["pid"]), True))
            elif whole := self._WHOLE.match(line):
                self.events.append((whole["call"], whole["rest"], False))
                if "<unfinished ...>" in line:
                    open_[whole["pid"]] = whole["rest"]
                else:
                    self.events.append((whole["call"], whole["rest"], True))


def _isPromise(call: str, arguments: str) -> bool:
    return call in ("write", "sendto", "sendmsg", "writev") and '"250 2.0.0 ' in arguments


def _traced(store: Store, directory: Path, streams: int) -> Trace:
    """Traces a server that takes ten messages by each of some streams."""
    output = directory / "trace"
    calls = "trace=write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2"
    with running(directory, "--delivery", store.spec(directory), under=["strace", "-f", "-y", "-s", "64", "-e", calls, "-o", str(output)]) as server:
        senders = [Stream(server, f"s{number}", 3, most=10) for number in range(streams)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert sum(len(sender.promised) for sender in senders) == 10 * streams
    return Trace(output.read_text())


needsStrace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not there")


@pytest.mark.slow
@needsStrace
@pytest.mark.timeout(300)
@pytest.mark.parametrize("streams", [1, 8])
def test_no_250_leaves_before_file_name_and_directory_are_synced(tmp_path: Path, streams: int) -> None:
    synced: set[str] = set()
    renamed: set[str] = set()
    inSync: list[set[str]] = []
    safe: set[str] = set()
    promises = 0
    for call, arguments, done in _traced(STORES["maildir"], tmp_path, streams).events:
        if call == "fsync" and (file := re.search(r"/mail/tmp/([^>]+)>", arguments)) and done:
            synced.add(file[1])
        elif call.startswith("rename") and done:
            name = re.search(r'/mail/new/([^"]+)"', arguments)
            assert name and name[1] in synced, f"renamed before it was synced: {arguments}"
            renamed.add(name[1])
        elif call == "fsync" and "/mail/new>" in arguments:
            if done:
                safe |= inSync.pop(0)
            else:
                inSync.append(set(renamed))
        elif _isPromise(call, arguments) and not done:
            promises += 1
            assert promises <= len(safe), "a 250 left before its message was safe"
    assert promises == len(safe) == 10 * streams


@pytest.mark.slow
@needsStrace
@pytest.mark.timeout(300)
def test_no_250_leaves_before_the_transaction_is_synced(tmp_path: Path) -> None:
    written = safe = False
    promises = 0
    for call, arguments, done in _traced(STORES["sqlite"], tmp_path, 1).events:
        if call == "pwrite64" and "/mail.db-wal>" in arguments:
            written, safe = True, False
        elif call in ("fsync", "fdatasync") and "/mail.db-wal>" in arguments and done:
            safe = written
        elif _isPromise(call, arguments) and not done:
            promises += 1
            assert safe, "a 250 left before its message was safe"
            written = safe = False
    assert promises == 10


# ---- Memory.

MEBI = 2**20
LINE = b"x" * 76 + b"\r\n"


def _sendLarge(server: Server, mebi: int, recipients: int = 1) -> None:
    piece = LINE * (MEBI // len(LINE))
    with server.connect() as client:
        # Gigabytes that come together are a while on their way to a slow disk.
        client.socket.settimeout(10 * PATIENCE)
        client.begin(recipients)
        for _ in range(mebi):
            client.say(piece)
        assert client.ask(b".\r\n").startswith(b"250 ")


@everyStore
def test_a_large_message_is_never_held(tmp_path: Path, store: Store) -> None:
    with running(tmp_path, "--delivery", store.spec(tmp_path)) as server:
        _sendLarge(server, 2)
        before = server.peak()
        _sendLarge(server, 50)
        assert server.peak() - before < 3 * MEBI
    assert sorted(len(stored) // MEBI for stored in store.visible(tmp_path)) == [1, 49]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@everyStore
def test_two_hundred_large_messages_at_once_hold_less_than_a_mebibyte_each(tmp_path: Path, store: Store) -> None:
    with running(tmp_path, "--delivery", store.spec(tmp_path), "--max-connections-per-address", "0") as server:
        _sendLarge(server, 2)
        before = server.peak()
        senders = [threading.Thread(target=_sendLarge, args=(server, 20)) for _ in range(200)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert server.peak() - before < 200 * MEBI
    assert sum(1 for _ in store.visible(tmp_path)) == 201
