"""What the tests of auth share: threads that run when they are told to, and small password files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_smtplite.auth import hashes
from twisted_smtplite.auth.passwordfile import PasswordFile
from twisted_smtplite.model.envelope import SessionInfo


class HeldThreads:
    """Stands for a reactor and its thread pool: what is to run in a thread waits until `run`, or runs at once.

    Attributes:
        waiting: what was begun and is not done.
    """

    def __init__(self, *, atOnce: bool = True) -> None:
        self.waiting: list[Callable[[], None]] = []
        self._atOnce = atOnce

    def getThreadPool(self) -> HeldThreads:
        return self

    def callInThreadWithCallback(self, onResult: Callable[[bool, Any], None], function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        def work() -> None:
            try:
                result = function(*arguments, **keywords)
            except Exception:  # noqa: BLE001 - a thread passes on whatever comes
                onResult(False, Failure())
            else:
                onResult(True, result)

        self.waiting.append(work)
        if self._atOnce:
            self.run()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        function(*arguments, **keywords)

    def run(self) -> None:
        """One thread finishes."""
        self.waiting.pop(0)()


def cheap(password: str, *, ln: int = 2) -> str:
    """A scrypt hash that costs nothing."""
    digest = hashes._scrypt(password.encode(), b"salt" * 4, ln, 1, 1, 32)
    return f"$scrypt$ln={ln},r=1,p=1${hashes._unpadded(b'salt' * 4)}${hashes._unpadded(digest)}"


def cheapKeys(password: str) -> str:
    """SCRAM keys that cost little."""
    salt = b"salt" * 4
    stored, server = hashes._scramKeys(password.encode(), salt, 4096)
    encoded = [hashes.b64encode(octets).decode() for octets in (salt, stored, server)]
    return f"SCRAM-SHA-256$4096:{encoded[0]}${encoded[1]}:{encoded[2]}"


def passwordFile(path: Path, **users: str) -> PasswordFile:
    path.write_text("".join(f"{name}:{stored}\n" for name, stored in users.items()))
    return PasswordFile(str(path))


def session(host: str = "192.0.2.1") -> SessionInfo:
    return SessionInfo("1", "mx.test", host, tls=True)


def settled(answer: Any) -> Any:
    """What an answer has come to: its value, or what it failed with; the Deferred itself while there is none."""
    deferred: Deferred[Any] = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(answer)
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results[0] if results else deferred
