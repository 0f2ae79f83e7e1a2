"""A server process that keeps what it gets, octet for octet, and refuses what a message asks it to refuse.

What the tests of commands that send share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from serverprocess import Server, running

# Runs in the server.
_SINK = r"""
import json, re
from itertools import count
from pathlib import Path
from twisted_smtplite.interfaces import IHonourExtensions
from twisted_smtplite.model.reply import Reply

numbers = count()

def receive(envelope, message):
    content = message.content.partition(b"\r\n\tby ")[2].partition(b" +0000\r\n")[2]
    asked = re.search(rb"^X-Answer: (\d+) (\S+)", content, re.MULTILINE)
    if asked:
        return Reply(int(asked[1]), asked[2].decode(), "As you like")
    number = next(numbers)
    notes = {name: repr(getattr(envelope, name)) for name in ("ret", "envelopeId", "requireTLS", "priority", "body", "smtputf8")}
    notes |= {"sender": str(envelope.sender), "recipients": [str(each.address) for each in envelope.recipients]}
    notes |= {"notify": [sorted(each.notify or ()) for each in envelope.recipients]}
    Path(f"kept/{number}").write_bytes(json.dumps(notes).encode() + b"\n" + content)
"""


class Kept(NamedTuple):
    """A message that the server has accepted."""

    sender: str
    recipients: list[str]
    content: bytes
    notes: dict[str, object]


class Sink:
    """The server, and the programs that send to it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.address = f"127.0.0.1:{server.port}"
        self._kept = folder / "kept"

    def messages(self) -> list[Kept]:
        """What came since this was asked before, in the order of its arrival."""
        found = []
        for path in sorted(self._kept.iterdir(), key=lambda path: int(path.name)):
            notes, _, content = path.read_bytes().partition(b"\n")
            notes = json.loads(notes)
            found.append(Kept(notes["sender"], notes["recipients"], content, notes))
            path.unlink()
        return found


@contextmanager
def sinking(folder: Path, *options: str) -> Generator[Sink, None, None]:
    """A sink in `folder`. It knows no nobody@mx.test."""
    (folder / "kept").mkdir()
    (folder / "mailsinkpart.py").write_text(_SINK)
    refusing = ("--delivery", "callable:mailsinkpart:receive", "--policy", "recipients:deny=nobody@mx.test")
    extensions = [part for name in ("DSN", "MT-PRIORITY", "REQUIRETLS") for part in ("--offer", name)]
    # The time of day at which a trace field is written ends in the zone, where the text begins.
    with running(folder, *refusing, *extensions, *options, under=("env", "TZ=UTC")) as server:
        yield Sink(server, folder)


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


def smtplite(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None, under: tuple[str, ...] = ()) -> Done:
    """Runs a command of ours to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SMTPLITE_")} | (env or {})
    command = [*under, sys.executable, "-m", "twisted_smtplite", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=50)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
