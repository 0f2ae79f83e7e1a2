"""What follows from AUTH: temporary failures, answers that the contract does not know, and deliveries of users' own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors import ScriptedDelivery
from stage import Stage, noFailures
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_smtplite.dialogue.sasl import Check, Conclusion, Login
from twisted_smtplite.interfaces import IAuthenticator, ISenderRights
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.policy.base import Policy
from twisted_smtplite.policy.usersenders import UserSenderPolicy

TIM = b"AUTH PLAIN AHRpbQBh\r\n"
PROFILE = Profile(mechanisms=("PLAIN",), plaintextAuth=True)


@implementer(IAuthenticator)
class Scripted:
    """Lets everybody in; what a login leads to is `answers`, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.concluded: list[Conclusion] = []

    def check(self, session: SessionInfo, check: Check) -> Any:
        return "tim"

    def conclude(self, session: SessionInfo, conclusion: Conclusion) -> Any:
        self.concluded.append(conclusion)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Talk:
    """A session behind EHLO."""

    def __init__(self, authenticator: object, limits: Limits | None = None, **options: Any) -> None:
        self.stage = Stage(limits, profile=PROFILE, **options)
        self.stage.factory.authenticator = authenticator  # type: ignore[assignment]
        self.stage.connect()
        self.say(b"EHLO client.test\r\n")

    @property
    def info(self) -> SessionInfo:
        """What is known of the session."""
        info: SessionInfo = self.stage.transport.protocol.info  # type: ignore[union-attr]
        return info

    def say(self, line: bytes) -> bytes:
        """What the server answers."""
        before = len(self.stage.transport.written)
        self.stage.transport.send(line)
        self.stage.settle()
        return bytes(self.stage.transport.written[before:])


@pytest.fixture
def own() -> Iterator[tuple[Talk, ScriptedDelivery, list[str], Scripted]]:
    """A session, the delivery of a user of its own, when he was logged out, and who says that."""
    authenticator = Scripted()
    talk = Talk(authenticator)
    delivery, out = ScriptedDelivery(talk.stage.clock), []
    authenticator.answers.append(Login(delivery, lambda: out.append("out")))
    yield talk, delivery, out, authenticator
    talk.stage.leave()
    talk.stage.assertInvariants()


def test_mail_of_a_user_goes_to_his_own_delivery(own: tuple[Talk, ScriptedDelivery, list[str], Scripted]) -> None:
    talk, delivery, out, _ = own
    assert talk.say(TIM).startswith(b"235 ")
    for line in (b"MAIL FROM:<a@client.test>\r\n", b"RCPT TO:<b@mx.test>\r\n", b"DATA\r\n", b"x\r\n.\r\n"):
        assert talk.say(line)[:1] in b"23"
    assert [message.body for message in delivery.messages] == [b"x\r\n"]
    assert talk.stage.delivery.questions == [] and not out
    talk.stage.leave()
    assert out == ["out"]


def test_a_login_that_is_refused_afterwards_gives_nothing(own: tuple[Talk, ScriptedDelivery, list[str], Scripted]) -> None:
    talk, delivery, out, authenticator = own
    authenticator.answers[0] = Login(object(), lambda: out.append("out"))
    heard = talk.say(TIM)
    # What is no delivery is logged, and the client hears that it was not his fault.
    assert heard == replies.AUTH_TEMPORARY.wire
    assert talk.stage.transport.connected
    assert talk.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250 ")
    assert talk.stage.delivery.questions == ["validateFrom"] and delivery.questions == []


def test_the_next_login_ends_the_one_before(own: tuple[Talk, ScriptedDelivery, list[str], Scripted]) -> None:
    talk, delivery, out, _ = own
    assert talk.say(TIM).startswith(b"235 ")
    server = talk.stage.transport.protocol
    assert talk.info.avatar is delivery
    # As STARTTLS does.
    server._logOut()  # type: ignore[union-attr]
    server._session.tlsStarted()  # type: ignore[union-attr]
    assert out == ["out"] and talk.info.avatar is None
    talk.say(b"EHLO client.test\r\n")
    assert talk.say(TIM).startswith(b"235 ")
    assert talk.say(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250 ")
    assert talk.stage.delivery.questions == ["validateFrom"] and delivery.questions == []


@implementer(ISenderRights)
class Account:
    """Sends by one address."""

    def maySend(self, sender: Address) -> bool:
        return str(sender) == "tim@mx.test"


def loggedIn(*answers: Any, **options: Any) -> Talk:
    """A session in which Tim has authenticated; what that gives him is `answers`, in order."""
    talk = Talk(Scripted(*answers), policies=lambda stage: (UserSenderPolicy(),), **options)
    assert talk.say(TIM).startswith(b"235 ")
    return talk


def test_an_avatar_that_is_no_delivery_says_which_senders_are_its_users() -> None:
    out: list[str] = []
    talk = loggedIn(Login(None, lambda: out.append("out"), Account()))
    assert talk.say(b"MAIL FROM:<tom@mx.test>\r\n") == replies.SENDER_NOT_YOURS.wire
    assert talk.say(b"MAIL FROM:<tim@mx.test>\r\n").startswith(b"250 ")
    # Mail goes where everybody's goes.
    assert talk.stage.delivery.questions == ["validateFrom"]
    talk.stage.leave()
    assert out == ["out"]


def test_a_delivery_of_a_user_may_be_his_avatar() -> None:
    class Home(ScriptedDelivery, Account):
        """Takes mail, and knows who may send it."""

    home = Home(Clock())
    talk = loggedIn(Login(home))
    assert talk.info.avatar is home
    assert talk.say(b"MAIL FROM:<tom@mx.test>\r\n") == replies.SENDER_NOT_YOURS.wire
    assert talk.say(b"MAIL FROM:<tim@mx.test>\r\n").startswith(b"250 ")
    assert home.questions == ["validateFrom"] and talk.stage.delivery.questions == []
    talk.stage.leave()


def test_the_avatar_goes_with_the_login() -> None:
    talk = loggedIn(Login(None, avatar=Account()), xclients=("192.0.2.1",))
    # The same user by name, of whom nobody here knows more.
    assert talk.say(b"XCLIENT LOGIN=tim\r\n").startswith(b"220 ")
    assert (talk.info.user, talk.info.avatar) == ("tim", None)
    talk.say(b"EHLO client.test\r\n")
    assert talk.say(b"MAIL FROM:<tim@mx.test>\r\n") == replies.SENDER_NOT_YOURS.wire
    talk.stage.leave()


def test_a_user_who_is_refused_has_no_avatar() -> None:
    class Nobody(Policy):
        def auth(self, session: SessionInfo, user: str) -> Reply:
            assert session.avatar is None
            return replies.AUTH_FAILED

    talk = Talk(Scripted(Login(None, avatar=Account())), policies=lambda stage: (Nobody(),))
    assert talk.say(TIM) == replies.AUTH_FAILED.wire
    assert (talk.info.user, talk.info.avatar) == (None, None)
    talk.stage.leave()


def test_a_login_that_comes_too_late_is_logged_out() -> None:
    waiting: Deferred[Login] = Deferred(lambda deferred: deferred.callback(Login(object(), lambda: out.append("out"))))
    out: list[str] = []
    talk = Talk(Scripted(waiting))
    assert talk.say(TIM) == b""
    talk.stage.leave()
    assert out == ["out"]
    talk.stage.assertInvariants()


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (None, replies.AUTHENTICATED),
        (replies.TOO_MANY_FAILED_LOGINS, replies.TOO_MANY_FAILED_LOGINS),
        (replies.AUTH_FAILED, replies.AUTH_FAILED),
        (succeed(replies.AUTH_FAILED), replies.AUTH_FAILED),
    ],
)
def test_what_a_login_leads_to_is_heard(answer: object, heard: Any) -> None:
    authenticator = Scripted(answer)
    talk = Talk(authenticator)
    assert talk.say(TIM) == heard.wire
    assert authenticator.concluded == [Conclusion("PLAIN", "tim")]
    assert (talk.stage.transport.protocol.info.user is None) is (heard is not replies.AUTHENTICATED)  # type: ignore[union-attr]
    talk.stage.leave()


@pytest.mark.parametrize("answer", [True, b"tim", object()])
def test_an_answer_that_the_contract_does_not_know_is_a_temporary_failure(answer: object) -> None:
    class Wrong(Scripted):
        def check(self, session: SessionInfo, check: Check) -> Any:
            return answer

    talk = Talk(Wrong())
    with noFailures(lambda: 1):
        assert talk.say(TIM) == replies.AUTH_TEMPORARY.wire
    talk.stage.leave()


def test_a_checker_without_an_answer_is_a_temporary_failure() -> None:
    class Never(Scripted):
        def check(self, session: SessionInfo, check: Check) -> Any:
            return Deferred()

    talk = Talk(Never(), Limits(backendTimeout=10))
    assert talk.say(TIM) == b""
    talk.stage.wait(10)
    assert bytes(talk.stage.transport.written).endswith(replies.AUTH_TEMPORARY.wire)
    talk.stage.leave()
