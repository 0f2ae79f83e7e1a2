"""What the session of a client does by itself, whoever drives it."""

from __future__ import annotations

from twisted_smtplite.dialogue.clientsession import ClientSession
from twisted_smtplite.dialogue.clientsteps import Ended, Ready
from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, TLSUse
from twisted_smtplite.model.results import PeerReply


def test_nothing_comes_of_what_is_said_after_the_end() -> None:
    session = ClientSession(ClientProfile(hostname="client.test", tls=TLSUse.NEVER), ClientLimits())
    assert session.reply(PeerReply(220)) == []
    assert session.reply(PeerReply(250, None, ("mx.test",))) == [Ready()]
    assert session.quit() == []
    assert session.output == [b"EHLO client.test\r\n", b"QUIT\r\n"]
    assert session.reply(PeerReply(221)) == [Ended()]
    assert session.reply(PeerReply(250)) == []
    assert not session.usable
