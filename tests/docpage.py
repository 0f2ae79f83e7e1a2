"""Runs the Python examples of one page of documentation as its reader would. Used by test_docs.py, in a process of its own per page.

The blocks of a page run in order in one namespace. If they then define `main(reactor)` it is called, and if they define `application` it is
started, on ports that the system chooses; each port that listens is sent a message. Where the page says ``<!-- main ends -->`` that is waited for. At
the end the comments ``<!-- check: EXPRESSION -->`` of the page must hold.
"""

from __future__ import annotations

import re
import smtplib
import sys
from pathlib import Path
from typing import Any

MESSAGE = b"From: ann@client.test\r\nTo: ben@mx.test\r\nSubject: Hello\r\n\r\nHello, Ben.\r\n"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDS = "<!-- main ends -->"
_CHECK = re.compile(r"<!-- check: (.*?) -->")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of `language` in a page, each with the number of lines before its first."""
    text = page.read_text()
    return [(text.count("\n", 0, found.start(2)), found[2]) for found in _FENCE.finditer(text) if found[1] == language]


def program(page: Path) -> str:
    """The Python blocks of a page as one program whose line numbers are those of the page."""
    lines: list[str] = []
    for before, block in blocks(page, "python"):
        lines += [""] * (before - len(lines))
        lines += block.splitlines()
    return "\n".join(lines) + "\n"


def send(port: int, host: str = "127.0.0.1") -> None:
    """Sends `MESSAGE` as a stranger's mail program does."""
    with smtplib.SMTP(host, port, timeout=20) as client:
        refused = client.sendmail("ann@client.test", ["ben@mx.test"], MESSAGE)
    assert refused == {}


def run(page: Path) -> None:
    from twisted.application import service
    from twisted.internet import defer, reactor, task, threads

    clock: Any = reactor
    ports: list[int] = []
    listen = clock.listenTCP

    def listenTCP(port: int, *args: Any, **kwargs: Any) -> Any:
        listening = listen(0, *args, **kwargs)
        ports.append(listening.getHost().port)
        return listening

    clock.listenTCP = listenTCP
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(program(page), str(page), "exec"), namespace)

    async def visit() -> None:
        if "main" in namespace:
            # main may return a Deferred that fires only when the reader stops it, as task.react wants it.
            result = namespace["main"](clock)
            running = defer.ensureDeferred(result) if hasattr(result, "send") else defer.maybeDeferred(lambda: result)
            running.addErrback(lambda failure: None if failure.check(defer.CancelledError) else failure)
            if _ENDS in page.read_text():
                await running
        if "application" in namespace:
            service.IService(namespace["application"]).privilegedStartService()
            service.IService(namespace["application"]).startService()
        while not ports:
            await task.deferLater(clock, 0.01)
        for port in ports:
            await threads.deferToThread(send, port)

    if "main" in namespace or "application" in namespace:
        failures: list[Any] = []
        clock.callWhenRunning(lambda: defer.ensureDeferred(visit()).addErrback(failures.append).addBoth(lambda _: clock.stop()))
        clock.run()
        for failure in failures:
            failure.raiseException()
    for expression in _CHECK.findall(page.read_text()):
        assert eval(expression, namespace), f"{page}: {expression} does not hold"


if __name__ == "__main__":
    run(Path(sys.argv[1]))
