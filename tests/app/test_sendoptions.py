"""The command line of ``smtplite send``: what its options mean, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from twisted_smtplite.app.cli import main
from twisted_smtplite.app.sendoptions import SendOptions
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import TLSUse


def parse(text: str, **environment: str) -> SendOptions:
    options = SendOptions(environment, ask=lambda prompt: f"typed for {prompt}")
    options.parseOptions(text.split())
    return options


def test_the_default_is_the_server_that_smtplite_is() -> None:
    options = parse("one.eml two.eml")
    assert options.names == ["one.eml", "two.eml"]
    assert (str(options.destination), options.destination.tls, options.destination.lmtp) == ("localhost:2525", TLSUse.OPPORTUNISTIC, False)
    assert (options.sender, options.recipients, options.notify, options.priority, options.trust) == (None, [], None, 0, None)


def test_the_environment_names_another() -> None:
    options = parse("-", SMTPLITE_SERVER="mx.test:587", SMTPLITE_TLS="encrypted", SMTPLITE_USER="ann", SMTPLITE_PASSWORD="hunter2")
    assert (str(options.destination), options.destination.tls) == ("mx.test:587", TLSUse.ENCRYPTED)
    assert options.destination.credentials is not None
    assert (options.destination.credentials.user, options.destination.credentials.password) == ("ann", "hunter2")
    options = parse("- --server [::1]:26 --tls never", SMTPLITE_SERVER="mx.test", SMTPLITE_TLS="nonsense")
    assert (str(options.destination), options.destination.tls) == ("[::1]:26", TLSUse.NEVER)


def test_options_may_stand_anywhere() -> None:
    options = parse("one.eml --from Ann<ann@client.test> --priority -3 two.eml --to=a@mx.test,b@mx.test --quiet --to c@mx.test -- --three")
    assert options.names == ["one.eml", "two.eml", "--three"]
    assert options.sender == Address("ann", "client.test")
    assert options.recipients == [Address(name, "mx.test") for name in "abc"]
    assert (options.priority, bool(options["quiet"])) == (-3, True)


def test_a_login_demands_verified_tls_unless_told_otherwise() -> None:
    assert parse("- --auth ann").destination.tls is TLSUse.REQUIRED
    assert parse("- --auth ann --tls never --allow-plaintext-auth").destination.plaintextAuth
    assert parse("- --require-tls").destination.tls is TLSUse.REQUIRED
    assert parse("- --server mx.test:465").destination.tls is TLSUse.IMPLICIT
    assert parse("- --server unix:/run/lmtp.sock --lmtp").destination.lmtp


def test_the_password_is_in_a_file_or_asked_for(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"hunter2 \r\nrest\n")
    for text, password in ((f"- --auth ann --password-file {tmp_path}/password", "hunter2 "), ("- --auth ann", "typed for Password of ann: ")):
        credentials = parse(text).destination.credentials
        assert credentials is not None and credentials.password == password


def test_own_authorities_are_trusted_and_no_others(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    options = parse(f"- --ca {tmp_path}/ca.pem")
    assert options.trust is not None and options.destination.tls is TLSUse.REQUIRED


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a file, Maildir or mbox is needed, or - for standard input"),
        ("- --nonsense", "option --nonsense not recognized"),
        ("- --version", "option --version not recognized"),
        ("- --from x", "--from x: 'x' is no address"),
        ("- --to a@b,", None),
        ("- --to ,", "--to ,: an address is needed"),
        ("- --to a@", "--to a@: 'a@' is no address"),
        ("- --server a:b:c", "--server a:b:c: "),
        ("- --server mx.test:99999", "--server mx.test:99999: "),
        ("- --tls maybe", "--tls maybe: it must be never, opportunistic, encrypted, required or implicit"),
        ("- --tls encrypted --ca x", "--ca goes with --tls required or implicit, not with encrypted"),
        ("- --ca nowhere", "--ca nowhere: it cannot be read: No such file or directory"),
        ("- --password-file x", "--password-file goes with --auth"),
        ("- --allow-plaintext-auth", "--allow-plaintext-auth goes with --auth"),
        ("- --auth ann --password-file nowhere", "--password-file nowhere: No such file or directory"),
        ("- --auth ann", "--auth needs a password: --password-file, or SMTPLITE_PASSWORD in the environment, where there is no terminal"),
        ("- --hostname a_b@", "--hostname a_b@: a domain name or an address literal"),
        ("- --notify never,delay", "--notify never,delay: never is needed, or some of"),
        ("- --ret some", "--ret some: it must be full or hdrs"),
        ("- --envid \xe4", "--envid \xe4: 1 to 100 printable ASCII characters are needed"),
        ("- --priority 10", "--priority 10: -9 to 9 is needed"),
        ("- --connections 0", "--connections 0: at least 1 is needed"),
        ("- --messages-per-connection x", "--messages-per-connection x: a whole number is needed"),
        ("- --mx --server mx.test", "--mx and --server do not go together"),
        ("- --mx --auth ann", "--mx and --auth do not go together"),
        ("- --require-tls --tls never", "--require-tls goes with --tls required or implicit, not with never"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    text: str, sentence: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SERVER", "TLS", "USER", "PASSWORD"):
        monkeypatch.delenv(f"SMTPLITE_{name}", raising=False)
    if sentence is None:
        assert len(parse(text).recipients) == 1
        return
    with pytest.raises(SystemExit) as raised:
        main(["send", *text.split()])
    assert raised.value.code == 64
    said = capsys.readouterr().err
    assert said.startswith(f"smtplite: send: {sentence}") and said.endswith("; --help shows the options\n") and said.count("\n") == 1


def test_the_help_shows_every_option_and_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["send", "--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: smtplite send [options] FILE|MAILDIR|MBOX|- ...\n")
    for name in ("--server", "--to", "--tls", "--dry-run", "75:"):
        assert name in shown


def test_what_cannot_be_read_is_said_before_anything_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, sentence in (("nothing", f"{tmp_path}/nothing: No such file or directory"), ("", f"{tmp_path} is a directory, but no Maildir")):
        with pytest.raises(SystemExit) as raised:
            main(["send", str(tmp_path / name)])
        assert raised.value.code == 66
        assert capsys.readouterr().err.startswith(f"smtplite: send: {sentence}")
