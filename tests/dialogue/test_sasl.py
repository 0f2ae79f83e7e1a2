"""The SASL mechanisms, driven by hand: what they say, what they ask, and what they make of every kind of nonsense."""

from __future__ import annotations

from base64 import b64decode

import pytest

from twisted_smtplite.dialogue.mechanisms import MECHANISMS
from twisted_smtplite.dialogue.mechanisms.scram import _scram
from twisted_smtplite.dialogue.sasl import Challenge, Digest, External, Keys, Password, Steps, StoredKeys, Token
from twisted_smtplite.model.envelope import SessionInfo

SESSION = SessionInfo("1", "mx.test", tls=True, certificate="carol", channelBinding=b"end point")
# What a mechanism comes to: it asks something, or it is over with nobody.
NOBODY = "nobody"


def begin(name: str, session: SessionInfo = SESSION, offered: tuple[str, ...] = ()) -> tuple[Steps, object]:
    """A new exchange, and its first step."""
    steps = MECHANISMS[name].run(session, offered)
    return steps, next(steps)


def tell(steps: Steps, value: object) -> object:
    """The next step, or the end: a user, or nobody."""
    try:
        return steps.send(value)
    except StopIteration as end:
        return ("user", end.value) if end.value is not None else NOBODY


def said(name: str, *responses: bytes) -> object:
    """What it comes to when the client says this."""
    steps, step = begin(name)
    for response in responses:
        assert isinstance(step, Challenge)
        step = tell(steps, response)
    return step


@pytest.mark.parametrize(
    ("response", "check"),
    [
        (b"\0tim\0tanstaaftanstaaf", Password("tim", "tanstaaftanstaaf")),
        (b"Ursel\0Kurt\0xipj3plmq", Password("Kurt", "xipj3plmq", "Ursel")),
        ("\0jürgen\0paßwort".encode(), Password("jürgen", "paßwort")),
        # RFC 4013: forms of the same character are the same, and soft hyphens are nothing.
        ("\0I\u00adX\0\u2168".encode(), Password("IX", "IX")),
        (b"\0" + b"u" * 255 + b"\0" + b"p" * 255, Password("u" * 255, "p" * 255)),
        (b"\0" + b"u" * 256 + b"\0p", NOBODY),
        (b"\0u\0" + b"p" * 256, NOBODY),
        (b"a" * 256 + b"\0u\0p", NOBODY),
        (b"", NOBODY),
        (b"tim", NOBODY),
        (b"tim\0tanstaaftanstaaf", NOBODY),
        (b"\0tim\0", NOBODY),
        (b"\0\0pass", NOBODY),
        (b"\0tim\0pass\0", NOBODY),
        (b"\0tim\0pa\nss", NOBODY),
        (b"\n\0tim\0pass", NOBODY),
        (b"\0\xff\0pass", NOBODY),
        (b"\0tim\0\xff", NOBODY),
        # RFC 4616 2: empty after preparation.
        ("\0tim\0\u00ad".encode(), NOBODY),
    ],
)
def test_plain_asks_for_name_and_password(response: bytes, check: object) -> None:
    assert said("PLAIN", response) == check


def test_plain_begins_with_an_empty_challenge() -> None:
    assert begin("PLAIN")[1] == Challenge(b"")


def test_login_prompts_as_clients_expect_it_to_the_letter() -> None:
    steps, step = begin("LOGIN")
    assert step == Challenge(b"Username:")
    assert tell(steps, b"tim") == Challenge(b"Password:")
    assert tell(steps, b"a b\tc") == NOBODY
    assert said("LOGIN", b"tim", b"a b") == Password("tim", "a b")


@pytest.mark.parametrize("responses", [(b"", b"p"), (b"u", b""), (b"u" * 256, b"p"), (b"\xff", b"p"), (b"u", b"p" * 256)])
def test_login_asks_for_the_password_whatever_the_name_is(responses: tuple[bytes, bytes]) -> None:
    assert said("LOGIN", *responses) == NOBODY


def test_cram_md5_never_says_a_challenge_twice() -> None:
    challenges = {begin("CRAM-MD5")[1] for _ in range(10)}
    assert len(challenges) == 10
    assert all(isinstance(each, Challenge) and each.data.endswith(b"@mx.test>") for each in challenges)


def test_cram_md5_asks_about_the_digest() -> None:
    steps, challenge = begin("CRAM-MD5")
    assert isinstance(challenge, Challenge)
    assert tell(steps, b"tim and tom b913a602c7eda7a495b4e6e7334d3890") == Digest("tim and tom", challenge.data, "b913a602c7eda7a495b4e6e7334d3890")
    assert tell(steps, "tim and tom") == ("user", "tim and tom")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"tim",
        b"tim b913",
        b" b913a602c7eda7a495b4e6e7334d3890",
        b"tim B913A602C7EDA7A495B4E6E7334D3890",
        b"\xff b913a602c7eda7a495b4e6e7334d3890",
    ],
)
def test_cram_md5_knows_no_other_form(response: bytes) -> None:
    assert said("CRAM-MD5", response) == NOBODY


@pytest.mark.parametrize(
    ("response", "check"),
    [(b"", External("carol", "")), (b"dave", External("carol", "dave")), (b"\xff", NOBODY), (b"a\0b", NOBODY)],
)
def test_external_asks_what_the_certificate_stands_for(response: bytes, check: object) -> None:
    assert said("EXTERNAL", response) == check


def test_external_needs_a_certificate() -> None:
    session = SessionInfo("1", "mx.test", tls=True)
    assert not MECHANISMS["EXTERNAL"].fits(session)
    assert tell(begin("EXTERNAL", session)[0], b"") == NOBODY


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"])
@pytest.mark.parametrize(("answer", "end"), [("tim", ("user", "tim")), (None, NOBODY), (True, NOBODY), (b"tim", NOBODY)])
def test_only_a_name_authenticates(name: str, answer: object, end: object) -> None:
    steps, _ = begin(name)
    responses = {"PLAIN": [b"\0u\0p"], "LOGIN": [b"u", b"p"], "CRAM-MD5": [b"u " + b"0" * 32], "EXTERNAL": [b""]}[name]
    for response in responses:
        tell(steps, response)
    assert tell(steps, answer) == end


# -- tokens

BEARER = b"n,a=user@example.com,\x01host=mx.test\x01port=587\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


@pytest.mark.parametrize(
    ("response", "check"),
    [
        (BEARER, Token("user@example.com", TOKEN)),
        (b"n,,\x01auth=bearer abc\x01\x01", Token("", "abc")),
        (b"y,a=a=2Cb=3Dc,\x01auth=Bearer  abc \x01\x01", Token("a,b=c", "abc")),
        # RFC 7628 3.1: what is not known is ignored.
        (b"n,,\x01foo=bar\x01AUTH=Bearer abc\x01qs=\x01\x01", Token("", "abc")),
    ],
)
def test_oauthbearer_asks_whose_the_token_is(response: bytes, check: object) -> None:
    assert said("OAUTHBEARER", response) == check


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=\x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,,\x01a1=x\x01auth=Bearer b\x01\x01",
        b"n,a=,\x01auth=Bearer abc\x01\x01",
        b"n,a=a=b,\x01auth=Bearer abc\x01\x01",
        "n,a=\u00ad,\x01auth=Bearer abc\x01\x01".encode(),
        b"p=tls-unique,,\x01auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,,\x01auth=Bearer abc\x01\x01more",
    ],
)
def test_oauthbearer_tells_why_it_fails_and_then_fails(response: bytes) -> None:
    steps, _ = begin("OAUTHBEARER")
    assert tell(steps, response) == Challenge(b'{"status":"invalid_token"}')
    assert tell(steps, b"\x01") == NOBODY


def test_a_token_that_nobody_knows_fails_the_same_way() -> None:
    for name, message in (("OAUTHBEARER", BEARER), ("XOAUTH2", b"user=a@b\x01auth=Bearer abc\x01\x01")):
        steps, _ = begin(name)
        assert isinstance(tell(steps, message), Token)
        assert isinstance(tell(steps, None), Challenge)
        assert tell(steps, b"") == NOBODY


def test_a_token_that_is_known_names_its_user() -> None:
    steps, _ = begin("XOAUTH2")
    assert tell(steps, b"user=a@b.test\x01auth=Bearer abc\x01\x01") == Token("a@b.test", "abc")
    assert tell(steps, "a@b.test") == ("user", "a@b.test")


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_tokens_are_for_tls_only(name: str) -> None:
    assert not MECHANISMS[name].fits(SessionInfo("1", "mx.test"))


# -- SCRAM

# RFC 7677 3: the example.
KEYS = StoredKeys(
    b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="),
    b64decode("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
    b64decode("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
    4096,
)
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
VERIFIER = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram(first: bytes = FIRST, keys: object = KEYS) -> tuple[Steps, object]:
    """The example of RFC 7677, up to the answer to who the user is."""
    steps = _scram("SCRAM-SHA-256", None, NONCE)
    next(steps)
    step = tell(steps, first)
    return (steps, tell(steps, keys)) if isinstance(step, Keys) else (steps, step)


def test_scram_does_the_example_of_the_rfc() -> None:
    pytest.importorskip("scramp")
    steps, step = scram()
    assert step == Challenge(CHALLENGE)
    assert tell(steps, FINAL) == Challenge(VERIFIER)
    assert tell(steps, b"") == ("user", "user")


def test_scram_asks_for_the_keys_of_the_name_as_it_is_meant() -> None:
    pytest.importorskip("scramp")
    steps, _ = begin("SCRAM-SHA-256")
    assert tell(steps, b"n,,n=a=2Cb=3Dc,r=abc") == Keys("a,b=c", "SCRAM-SHA-256")
    assert tell(steps, None) == NOBODY


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xff",
        b"n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,r=abc,n=user",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=user,r=a\x01b",
        b"n,a=other,n=user,r=abc",
        # Nothing to bind to was offered.
        b"p=tls-server-end-point,,n=user,r=abc",
        # What comes back of it would not fit into a reply line.
        b"n,,n=user,r=" + b"x" * 400,
    ],
)
def test_scram_refuses_a_first_message(first: bytes) -> None:
    pytest.importorskip("scramp")
    assert scram(first)[1] == NOBODY


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"\xff",
        FINAL[:-5] + b"AAA=",
        # RFC 5802 5.1: the nonce, whole.
        FINAL.replace(b"hNlF$k0", b"hNlF$k1"),
        # RFC 5802 6: what the client bound to.
        FINAL.replace(b"c=biws", b"c=eSws"),
        FINAL.replace(b"c=biws", b"c=!"),
        FINAL.replace(b",p=", b",m=x,p="),
    ],
)
def test_scram_refuses_a_final_message(final: bytes) -> None:
    pytest.importorskip("scramp")
    assert tell(scram()[0], final) == NOBODY


def test_scram_wants_nothing_more_behind_its_last_word() -> None:
    pytest.importorskip("scramp")
    steps, _ = scram()
    tell(steps, FINAL)
    assert tell(steps, b"x") == NOBODY


@pytest.mark.parametrize(
    ("offered", "step"), [((), Keys("user", "SCRAM-SHA-256")), (("SCRAM-SHA-256-PLUS",), NOBODY)], ids=["not offered", "hidden on the way"]
)
def test_scram_finds_out_that_somebody_hid_the_binding_from_the_client(offered: tuple[str, ...], step: object) -> None:
    pytest.importorskip("scramp")
    steps, _ = begin("SCRAM-SHA-256", offered=offered)
    assert tell(steps, b"y,,n=user,r=abc") == step


def test_scram_plus_is_bound_to_the_channel() -> None:
    scramp = pytest.importorskip("scramp")
    for data, bound in ((b"end point", True), (b"another", False)):
        client = scramp.ScramClient(["SCRAM-SHA-256-PLUS"], "user", "pencil", channel_binding=("tls-server-end-point", data))
        steps, _ = begin("SCRAM-SHA-256-PLUS")
        assert tell(steps, client.get_client_first().encode()) == Keys("user", "SCRAM-SHA-256")
        challenge = tell(steps, KEYS)
        assert isinstance(challenge, Challenge)
        client.set_server_first(challenge.data.decode())
        last = tell(steps, client.get_client_final().encode())
        assert isinstance(last, Challenge) is bound
    assert tell(begin("SCRAM-SHA-256-PLUS")[0], b"n,,n=user,r=abc") == NOBODY
    assert not MECHANISMS["SCRAM-SHA-256-PLUS"].fits(SessionInfo("1", "mx.test"))


# -- secrets


@pytest.mark.parametrize("check", [Password("tim", "hunter2"), Token("tim", "hunter2"), StoredKeys(b"hunter2", b"hunter2", b"hunter2", 4096)])
def test_nothing_secret_is_in_what_a_log_would_show(check: object) -> None:
    assert "hunter2" not in f"{check!r} {check}"
