"""``console``: prints each message for people to read.

Knows that a terminal obeys control characters and that a client may send any: none is printed as it came. Must not know where messages are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from zope.interface import implementer

from ..interfaces import IMessage
from .base import AcceptingDelivery, DeliveryPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, SessionInfo

_SHOWN = 65_536
"""Octets of a message that are printed, unless another number is asked for."""


class ConsoleDelivery(AcceptingDelivery):
    """Prints envelope, headers and body of each message to a stream.

    Args:
        stream: where to; standard output, as it is now, when left out.
        shown: how many octets of a message are printed and held in memory; the rest is counted.
    """

    def __init__(self, stream: TextIO | None = None, shown: int = _SHOWN) -> None:
        # Taken now and not for each message: twistd puts its log in the place of standard output once it runs.
        self._stream = stream or sys.stdout
        self._shown = shown

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that prints itself at its end."""
        return _ConsoleMessage(self._print, self._shown, session, envelope)

    def _print(self, text: str) -> None:
        # A message whose script the terminal cannot show is no reason to refuse it.
        encoding = self._stream.encoding or "utf-8"
        # One write for each message: those of other sessions and processes do not get between.
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()


@implementer(IMessage)
class _ConsoleMessage:
    __slots__ = ("_envelope", "_hidden", "_print", "_session", "_shown", "_text")

    def __init__(self, show: Callable[[str], None], shown: int, session: SessionInfo, envelope: Envelope) -> None:
        self._print = show
        self._shown = shown
        self._session = session
        self._envelope = envelope
        self._text = bytearray()
        self._hidden = 0

    def dataReceived(self, chunk: bytes) -> None:
        """Holds what will be printed and counts the rest."""
        room = self._shown - len(self._text)
        self._text += chunk[:room]
        self._hidden += max(0, len(chunk) - room)

    def eomReceived(self) -> None:
        """Prints the message."""
        self._print(self._render())

    def connectionLost(self, reason: Exception) -> None:
        """Prints nothing."""

    def _render(self) -> str:
        session, envelope = self._session, self._envelope
        headers, _, body = bytes(self._text).partition(b"\r\n\r\n")
        lines = [
            f"---- message {envelope.id} ".ljust(78, "-"),
            f"client  {printable(session.heloName)} [{session.peerHost or 'unix socket'}], {session.protocol}",
            f"from    <{printable(str(envelope.sender))}>",
            *(f"to      <{printable(str(recipient.address))}>" for recipient in envelope.recipients),
            "---- headers ".ljust(78, "-"),
            *_lines(headers),
            "---- body ".ljust(78, "-"),
            *_lines(body),
        ]
        if self._hidden:
            lines.append(f"---- {self._hidden} more octets are not shown ".ljust(78, "-"))
        return "\n".join([*lines, f"---- end of {envelope.id} ".ljust(78, "-"), "", ""])


def printable(text: str) -> str:
    """`text` without anything that moves a cursor: tabs as blanks, other characters that do not print as Python escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text.expandtabs())


def _lines(octets: bytes) -> list[str]:
    """The lines of a part of a message, octets that are no UTF-8 as escapes."""
    if not octets:
        return []
    return [printable(line.decode("utf-8", "backslashreplace")) for line in octets.removesuffix(b"\r\n").split(b"\r\n")]


def _make(argument: str, reactor: IReactorCore) -> ConsoleDelivery:
    if not argument:
        return ConsoleDelivery()
    if not (argument.isascii() and argument.isdigit()):
        raise ValueError(f"the number of octets to show must be 0 or more, not {argument!r}")
    return ConsoleDelivery(shown=int(argument))


plugin = DeliveryPlugin(
    "console",
    "print envelope, headers and body of each message",
    f"OCTETS  how much of a message is printed, {_SHOWN} when left out",
    _make,
    oneProcess="what they print would mix",
)
