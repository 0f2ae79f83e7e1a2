"""Sends mail: the names that applications use.

Knows only where each is. `sendMessage` sends one message over a connection of its own; `SMTPPool` keeps connections; `Content` and `Destination` say
what is sent and where to. `MXSender`, which finds the servers of any domain, is in `client.mx`: it loads DNS, which others do without.
"""

from __future__ import annotations

from ..model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from ..model.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    PeerRefused,
    ProtocolViolation,
    SMTPClientError,
    TLSFailed,
    Unsendable,
)
from ..model.results import Delivery, PeerReply, RecipientOutcome, Stage
from .content import Content
from .destination import Destination
from .envelopes import envelopeFor
from .pool import PoolLimits, SMTPPool
from .send import sendMessage

__all__ = [
    "AuthenticationFailed",
    "ClientLimits",
    "ClientProfile",
    "ConnectionFailed",
    "Content",
    "Credentials",
    "Delivery",
    "Destination",
    "PeerRefused",
    "PeerReply",
    "PoolLimits",
    "ProtocolViolation",
    "RecipientOutcome",
    "SMTPClientError",
    "SMTPPool",
    "Stage",
    "TLSFailed",
    "TLSUse",
    "Unsendable",
    "envelopeFor",
    "sendMessage",
]
