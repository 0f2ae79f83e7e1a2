"""Envelopes and sessions in the words of the `@` mark of transcripts."""

from __future__ import annotations

from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo


def describe(envelope: Envelope) -> str:
    """An envelope as the `@` mark has it."""
    words = [f"<{envelope.sender}>"]
    words += [f"body={envelope.body}"] * (envelope.body != "7BIT")
    words += [f"size={envelope.size}"] * (envelope.size is not None)
    words += ["smtputf8"] * envelope.smtputf8
    words += [f"auth=<{envelope.submitter}>"] * (envelope.submitter is not None)
    words += [f"ret={envelope.ret}"] * (envelope.ret is not None)
    words += [f"envid={envelope.envelopeId}"] * (envelope.envelopeId is not None)
    words += ["requiretls"] * envelope.requireTLS
    if envelope.deliverBy is not None:
        words.append(f"by={envelope.deliverBy.seconds}{envelope.deliverBy.mode}{'T' * envelope.deliverBy.trace}")
    words += [f"priority={envelope.priority}"] * (envelope.priority != 0)
    if envelope.holdUntil is not None:
        words.append(f"hold={envelope.holdUntil - envelope.receivedAt:.0f}")
    words += ["prdr"] * envelope.prdr
    words += [f"{name}={value}" for name, value in (envelope.forwarded or {}).items()]
    return " ".join([*words, "->", *map(_describeRecipient, envelope.recipients)])


def _describeRecipient(recipient: Recipient) -> str:
    words = [f"<{recipient.address}>"]
    if recipient.notify is not None:
        words.append(f"notify={','.join(sorted(recipient.notify))}")
    if recipient.originalRecipient is not None:
        words.append(f"orcpt={';'.join(recipient.originalRecipient)}")
    if recipient.validSince is not None:
        words.append(f"since={recipient.validSince.time:.0f}{recipient.validSince.action}")
    return " ".join(words)


def describeSession(info: SessionInfo) -> str:
    """What is known of the client, as the `@ session` mark has it."""
    words = [f"session {info.peerHost}:{info.peerPort} {info.protocol} helo={info.heloName}"]
    words += [f"name={info.peerName}"] * bool(info.peerName)
    words += [f"to={info.localHost}:{info.localPort}"] * bool(info.localHost)
    words += [f"user={info.user} by={info.mechanism}"] * (info.user is not None)
    words += [f"tls={info.tlsVersion},{info.tlsCipher},{info.serverName},{info.certificate}"] * bool(info.tlsVersion)
    return " ".join(words)
