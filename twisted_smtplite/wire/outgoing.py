"""What the wire asks of a text that is to be sent.

Knows the promise only; `client.content` keeps it for octets, files, messages and iterators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class Text(Protocol):
    """The text of one message, as DATA or BDAT carries it but for dots: line ends are CRLF, and the last line has one.

    In a message that is declared BINARYMIME (RFC 3030) they are whatever they are.
    """

    @property
    def size(self) -> int | None:
        """Octets of all pieces together; None when nobody knows before the end."""

    @property
    def repeatable(self) -> bool:
        """True if `pieces` may be called again: a message for many recipients may take several transactions."""

    @property
    def utf8(self) -> bool:
        """True when there are octets above 127 in its header section (RFC 6532); asked only where SMTPUTF8 is wanted and not offered."""

    def pieces(self) -> Iterator[bytes | Deferred[bytes]]:
        """From the beginning: pieces of 1 to 65,536 octets, or Deferreds that fire with one. The next is asked for after the one before has fired.

        Whoever takes them closes the iterator when he stops before its end. An error in it ends the message, which the peer must not take.

        Raises:
            SMTPClientError: the text cannot be read again.
        """

    def sevenBit(self) -> Text:
        """The same message without octets above 127, for a server without 8BITMIME (RFC 6152 3).

        Raises:
            Unsendable: there is no such form.
        """
