"""The commands of a mail transaction as a client writes them: MAIL and RCPT with the parameters that the envelope asks for.

Knows which parameter needs which extension (RFC 5321 4.1.1.3: none of what the server did not offer), and what cannot go to a server without it.
How the values are read back is in `parameters`. Must not know the order of commands.
"""

from __future__ import annotations

import re

from ..model.address import Address
from ..model.envelope import Envelope, Recipient
from ..model.errors import Unsendable
from ..model.idn import asciiDomain
from ..model.results import PeerReply, Stage
from .peer import Peer

# What can be no part of a command line, whoever made the envelope.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
_NOT_ATOM = re.compile(r"[\s<>]")


def encodeXtext(text: str) -> str:
    """`text` in xtext (RFC 3461 4); what is not ASCII as the octets of its UTF-8.

    Raises:
        Unsendable: it holds what is no Unicode.
    """
    try:
        octets = text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        raise unsendable(501, "5.5.4", f"what is no Unicode in the envelope: {text[:100]!r}") from None
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", octets)


def mailCommand(envelope: Envelope, size: int | None, peer: Peer, *, secure: bool, verified: bool, recipients: int) -> bytes:
    """The MAIL command, with its CRLF.

    Args:
        envelope: what is sent.
        size: octets of the text (RFC 1870), or None.
        peer: the server.
        secure: True inside TLS.
        verified: True where the server's certificate was verified.
        recipients: how many follow.

    Raises:
        Unsendable: the server cannot take this message.
    """
    words = [f"MAIL FROM:{_path(envelope.sender, utf8=envelope.smtputf8)}"]
    if not envelope.smtputf8 and not words[0].isascii():
        raise unsendable(553, "5.6.7", "the sender's address is not ASCII, and the message not declared as internationalized")
    words += _sizes(envelope, size, peer)
    words += _protection(envelope, peer, secure=secure, verified=verified)
    if envelope.submitter is not None and peer.offers("AUTH"):
        # RFC 4954 5: to be passed on where AUTH is offered.
        words.append("AUTH=" + (encodeXtext(envelope.submitter) or "<>"))
    if peer.offers("DSN"):
        words += [f"RET={envelope.ret}"] if envelope.ret else []
        words += [f"ENVID={encodeXtext(envelope.envelopeId)}"] if envelope.envelopeId else []
    words += _times(envelope, peer)
    if envelope.priority and peer.offers("MT-PRIORITY"):
        words.append(f"MT-PRIORITY={envelope.priority}")
    if envelope.prdr and recipients > 1 and peer.offers("PRDR"):
        words.append("PRDR")
    return _line(words)


def rcptCommand(recipient: Recipient, envelope: Envelope, peer: Peer) -> bytes | PeerReply:
    """The RCPT command, with its CRLF; or the reply that stands for the server's where it cannot take the message for this recipient."""
    try:
        return _rcptCommand(recipient, envelope, peer)
    except Unsendable as error:
        return error.reply


def _rcptCommand(recipient: Recipient, envelope: Envelope, peer: Peer) -> bytes:
    words = [f"RCPT TO:{_path(recipient.address, utf8=envelope.smtputf8)}"]
    if not envelope.smtputf8 and not words[0].isascii():
        raise unsendable(553, "5.6.7", "the address is not ASCII, and the message not declared as internationalized")
    if peer.offers("DSN"):
        words += ["NOTIFY=" + ",".join(sorted(recipient.notify))] if recipient.notify else []
        words += [_orcpt(*recipient.originalRecipient, utf8=envelope.smtputf8)] if recipient.originalRecipient else []
    since = recipient.validSince
    if since is not None:
        if peer.offers("RRVS"):
            from .parameters import formatDateTime

            words.append(f"RRVS={formatDateTime(since.time)};{since.action}")
        elif since.action == "R":
            # RFC 7293 5.2: who asked to be sure is not to be guessed about.
            raise unsendable(550, "5.7.19", "the server cannot tell since when the mailbox belongs to its owner (RRVS)")
    return _line(words)


def _path(address: Address, *, utf8: bool) -> str:
    text = str(address)
    if not (utf8 or text.isascii()):
        # RFC 5890 2.3.2.1: the A-labels of a domain name the same one. A local part has no other form.
        try:
            text = str(address._replace(domain=asciiDomain(address.domain)))
        except ValueError as error:
            raise unsendable(553, "5.1.3", str(error)) from error
    # Without a domain the local part is not quoted.
    if _NOT_ATOM.search(address.domain or address.localPart):
        raise unsendable(553, "5.1.3", f"{text!r} is no address")
    return f"<{text}>"


def _line(words: list[str]) -> bytes:
    line = " ".join(words)
    if _CONTROLS.search(line):
        raise unsendable(501, "5.5.4", f"control characters in the envelope: {line[:100]!r}")
    try:
        return f"{line}\r\n".encode()
    except UnicodeEncodeError:
        raise unsendable(501, "5.5.4", f"what is no Unicode in the envelope: {line[:100]!r}") from None


def _sizes(envelope: Envelope, size: int | None, peer: Peer) -> list[str]:
    """How large the message is, and what kinds of octets it holds."""
    words = []
    if size is not None and peer.offers("SIZE"):
        if peer.sizeLimit is not None and size > peer.sizeLimit:
            # RFC 1870 6: not to be tried.
            raise unsendable(552, "5.3.4", f"the message has {size} octets, and the server takes {peer.sizeLimit}")
        words.append(f"SIZE={size}")
    if envelope.body == "BINARYMIME":
        if not (peer.offers("BINARYMIME") and peer.offers("CHUNKING")):
            raise unsendable(554, "5.6.1", "the message is binary, and the server does not offer BINARYMIME")
        words.append("BODY=BINARYMIME")
    elif envelope.body == "8BITMIME":
        if not peer.offers("8BITMIME"):
            raise unsendable(554, "5.6.3", "the message is not 7-bit, and the server does not offer 8BITMIME")
        words.append("BODY=8BITMIME")
    if envelope.smtputf8:
        if not peer.offers("SMTPUTF8"):
            raise unsendable(550, "5.6.7", "the message is internationalized, and the server does not offer SMTPUTF8")
        words.append("SMTPUTF8")
    return words


def _protection(envelope: Envelope, peer: Peer, *, secure: bool, verified: bool) -> list[str]:
    """RFC 8689 4.2.1: verified TLS, and a server that asks the same of the next."""
    if not envelope.requireTLS:
        return []
    if not (secure and verified):
        raise unsendable(550, "5.7.10", "the message may travel only over TLS with a verified server")
    if not peer.offers("REQUIRETLS"):
        raise unsendable(550, "5.7.30", "the message may travel only over TLS, and the server does not offer REQUIRETLS")
    return ["REQUIRETLS"]


def _times(envelope: Envelope, peer: Peer) -> list[str]:
    words = []
    by = envelope.deliverBy
    if by is not None:
        least = peer.extensions.get("DELIVERBY", "").strip()
        soonest = int(least) if least.isascii() and least.isdigit() and len(least) <= 9 else 0
        if peer.offers("DELIVERBY") and not (by.mode == "R" and by.seconds < soonest):
            words.append(f"BY={by.seconds};{by.mode}{'T' if by.trace else ''}")
        elif by.mode == "R":
            # RFC 2852 4.1.4: rather returned than late.
            raise unsendable(550, "5.4.7", f"the server cannot promise delivery within {by.seconds} seconds (DELIVERBY)")
    if envelope.holdUntil is not None:
        if not peer.offers("FUTURERELEASE"):
            raise unsendable(554, "5.3.3", "the message is to be held, and the server does not offer FUTURERELEASE")
        from .parameters import formatDateTime

        words.append(f"HOLDUNTIL={formatDateTime(envelope.holdUntil)}")
    return words


def _orcpt(kind: str, address: str, *, utf8: bool) -> str:
    if kind.lower() != "utf-8":
        return f"ORCPT={kind};{encodeXtext(address)}"
    # RFC 6533 3: utf-8-addr-unitext where the server takes UTF-8, else its ASCII form. A backslash is spelled, so that it begins nothing.
    spelled = address.replace("\\", "\\x{5C}")
    if not utf8:
        spelled = "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in spelled)
    return f"ORCPT={kind};" + re.sub(r"[^!-*,-<>-~\u0080-\U0010ffff]", lambda match: f"\\x{{{ord(match[0]):02X}}}", spelled)


def unsendable(code: int, enhanced: str, text: str) -> Unsendable:
    """This message cannot go to this server: the error that says so."""
    return Unsendable(PeerReply(code, enhanced, (text,), local=True), Stage.MAIL)
