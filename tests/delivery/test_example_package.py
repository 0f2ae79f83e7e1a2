"""The third-party backend in docs/examples: installed as a stranger installs it, and used by a server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, anEnvelope, begin, deliver
from twisted.internet import reactor

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "smtplite-jsonlines"

PROGRAM = """
import sys
from importlib import metadata
from twisted.internet import reactor
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted_smtplite import plugins
from twisted_smtplite.delivery import registry
from twisted_smtplite.wire.factory import SMTPServerFactory

path, way = sys.argv[1:]
if way == "plugin":
    plugins.metadata.entry_points = lambda group: ()
if way == "entry point":
    plugins.getCache = lambda package: {}
    plugins.getModule = lambda name: type("Nothing", (), {"iterModules": list})
with capturedLogs() as events:
    assert registry.deliveryNames().count("jsonlines") == 1, registry.deliveryNames()
assert not [event for event in events if "source" in event], events

server = SMTPServerFactory(registry.makeDelivery("jsonlines:" + path, reactor), reactor).buildProtocol(None)
transport = StringTransport()
server.makeConnection(transport)
server.dataReceived(b"EHLO client.test\\r\\nMAIL FROM:<ann@client.test>\\r\\nRCPT TO:<ben@mx.test>\\r\\n")
server.dataReceived(b"DATA\\r\\nSubject: Hello\\r\\n\\r\\n..dot\\r\\n.\\r\\n")

def look():
    if b"\\r\\n250 2.0.0 " in transport.value():
        reactor.stop()
    else:
        reactor.callLater(0.01, look)

reactor.callLater(0, look)
reactor.run()
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import smtplite_jsonlines

    return smtplite_jsonlines


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest_twisted.ensureDeferred
async def test_the_example_writes_one_line_for_each_message(example: Any, tmp_path: Path) -> None:
    path = tmp_path / "mail.jsonl"
    delivery = example.plugin.makeDelivery(str(path), reactor)
    assert await deliver(delivery, [CONTENT[:9], CONTENT[9:]], anEnvelope("ben@mx.test", "cy@mx.test")) == "E1"
    await deliver(delivery, b"x\r\n", anEnvelope(sender=""))
    first, second = entries(path)
    assert (first["id"], first["from"], first["to"]) == ("E1", "ann@client.test", ["ben@mx.test", "cy@mx.test"])
    assert first["content"].encode("utf-8", "surrogateescape").endswith(CONTENT)
    assert second["from"] == ""


@pytest_twisted.ensureDeferred
async def test_the_example_leaves_no_half_line(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mail.jsonl"
    delivery = example.plugin.makeDelivery(str(path), reactor)
    (await begin(delivery)).connectionLost(Exception("gone"))
    await deliver(delivery)

    def full(fd: int) -> None:
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(example.os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            await deliver(delivery)
    await deliver(delivery)
    assert len(entries(path)) == 2


def test_the_example_wants_a_path(example: Any) -> None:
    with pytest.raises(ValueError, match="name a file: jsonlines:PATH"):
        example.plugin.makeDelivery("", reactor)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the example, from a copy so that the tree stays clean."""
    pytest.importorskip("pip")
    if int(metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("the setuptools of the test extra is needed to build it")
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
@pytest.mark.parametrize("way", ["both", "plugin", "entry point"])
def test_the_installed_example_is_found_and_serves(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    assert not list(installed.rglob("__init__.py"))
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=":")
    done = subprocess.run([sys.executable, "-c", PROGRAM, "mail.jsonl", way], capture_output=True, text=True, cwd=tmp_path, timeout=50)
    assert done.returncode == 0, done.stderr
    (entry,) = entries(tmp_path / "mail.jsonl")
    assert (entry["from"], entry["to"]) == ("ann@client.test", ["ben@mx.test"])
    assert entry["content"].endswith("Subject: Hello\r\n\r\n.dot\r\n")
