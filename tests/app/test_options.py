"""The command line: what each option accepts, and what the user reads when it does not."""

from __future__ import annotations

import re
import sys
from dataclasses import fields

import pytest
from twisted.python import usage

from twisted_smtplite.app.options import GROUPS, LIMITS, Options
from twisted_smtplite.app.ports import withSocketMode
from twisted_smtplite.app.quantity import parseSize, parseTime, sizeText, timeText
from twisted_smtplite.model.limits import BareLineEnds, Limits


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("512", 512), ("1k", 1024), ("1K", 1024), ("1.5k", 1536), ("50M", 52_428_800), ("2G", 2_147_483_648), ("0.5", 0)],
)
def test_a_size_is_octets_or_has_a_suffix(text: str, octets: int) -> None:
    assert parseSize(text) == octets


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("0.25", 0.25), ("1H", 3600)])
def test_a_time_is_seconds_or_has_a_suffix(text: str, seconds: float) -> None:
    assert parseTime(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1T", "1 k", "nan", "inf", "1e3", "k", "1.", ".5", "1kk", "\u0661"])
def test_nothing_else_is_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size is"):
        parseSize(text)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: str(limit.metadata["option"]))
def test_every_default_is_shown_as_it_would_be_typed(limit: object) -> None:
    row = next(row for _, rows in GROUPS for row in rows if row.name == limit.metadata["option"])  # type: ignore[attr-defined]
    shown = re.search(r"\(default ([^;)]+)", row.meaning)
    assert shown is not None
    assert parse(f"--{row.name}", shown[1]).limits == Limits()


def test_texts_of_quantities_are_short() -> None:
    assert [sizeText(52_428_800), sizeText(512), sizeText(1536), sizeText(0)] == ["50M", "512", "1536", "0"]
    assert [timeText(86_400), timeText(300), timeText(0.5), timeText(0)] == ["24h", "300", "0.5", "0"]


def test_without_options_the_server_is_on_port_2525_of_this_computer_and_stores_in_a_maildir() -> None:
    options = parse()
    assert (options["port"], options["interface"], options.endpoints["listen"]) == (2525, "127.0.0.1", [])
    assert options.deliveries == ["maildir:Maildir"]
    assert options["hostname"] == ""
    assert options.limits == Limits()


def test_each_field_of_the_limits_has_its_option() -> None:
    for limit in fields(Limits):
        option = limit.metadata.get("option")
        if option is not None:
            assert getattr(parse(f"--{option}", "7777").limits, limit.name) == 7777


def test_what_is_accepted_can_be_widened_by_name() -> None:
    limits = parse("--lenient-paths", "--bare-line-ends", "normalise").limits
    assert limits == Limits(lenientPaths=True, bareLineEnds=BareLineEnds.NORMALISE)


def test_endpoints_and_deliveries_may_be_repeated() -> None:
    options = parse("--listen", "tcp:25", "--listen=tcp6:25", "--delivery", "null", "--delivery", "memory")
    assert options.endpoints["listen"] == ["tcp:25", "tcp6:25"]
    assert options.deliveries == ["null", "memory"]


def test_an_endpoint_takes_the_place_of_the_default_port_but_not_of_one_that_was_asked_for() -> None:
    assert parse("--listen", "tcp:25")["port"] is None
    assert parse("--listen", "tcp:25", "--port", "26")["port"] == 26


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "65536"], "--port 65536: a port is at most 65535"),
        (["--port", "smtp"], "--port smtp: a whole number is needed"),
        (["--port", "-1"], "--port -1: a whole number is needed"),
        (["--interface", "::1", "--listen", "tcp:25"], "--interface goes with --port: a --listen endpoint names its own interface"),
        (["--hostname", "a b"], "--hostname a b: a domain name or an address literal such as [192.0.2.1] is needed"),
        (["--hostname", ""], "--hostname : a domain name or an address literal such as [192.0.2.1] is needed"),
        (["--bare-line-ends", "keep"], "--bare-line-ends keep: it must be refuse or normalise"),
        (["--log-format", "xml"], "--log-format xml: it must be text or json"),
        (["--max-size", "1T"], "--max-size 1T: a size is a number, with k, M or G behind it or nothing"),
        (["--max-errors", "2.5"], "--max-errors 2.5: a whole number is needed"),
        (["--max-recipients", "99"], "--max-recipients 99: it must be at least 100"),
        (["--max-command-line", "0.1k"], "--max-command-line 0.1k: it must be at least 512"),
        (["--drain-time", "soon"], "--drain-time soon: a time is a number of seconds, or one with s, m or h behind it"),
        (["--no-such"], "option --no-such not recognized"),
        (["mail"], "unexpected argument 'mail'"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(usage.UsageError) as raised:
        parse(*arguments)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_help_has_every_option_under_a_heading_and_fits_the_terminal(width: int) -> None:
    lines = Options().getUsage(width).splitlines()
    assert max(map(len, lines)) <= width
    options = {line.split()[0] for line in lines if line.startswith("  --")}
    assert options == {f"--{row.name}" for _, rows in GROUPS for row in rows}
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [f"{heading}:" for heading, _ in GROUPS]


def test_every_option_of_the_help_can_be_parsed() -> None:
    known = {name.rstrip("=") for name in Options().longOpt}
    assert {row.name for _, rows in GROUPS for row in rows} == known


def test_the_deliveries_are_listed_with_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse("--list-deliveries")
    shown = capsys.readouterr().out
    assert raised.value.code == 0
    assert re.search(r"(?m)^maildir: .+\n    PATH", shown)
    assert re.search(r"(?m)^null: ", shown)


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse("--version")
    assert raised.value.code == 0
    assert re.fullmatch(r"twisted-smtplite \d\S* \(Twisted \d\S*, Python " + re.escape(sys.version.split()[0]) + r"\)\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("unix:/run/smtp.sock", "unix:/run/smtp.sock:mode=660"),
        ("unix:/run/smtp.sock:lockfile=0", "unix:/run/smtp.sock:lockfile=0:mode=660"),
        ("unix:address=/run/smtp.sock", "unix:address=/run/smtp.sock:mode=660"),
        ("unix:/run/mode=1\\:2", "unix:/run/mode=1\\:2:mode=660"),
        ("unix:/run/smtp.sock:mode=600", "unix:/run/smtp.sock:mode=600"),
        ("unix:/run/smtp.sock:600", "unix:/run/smtp.sock:600"),
        ("tcp:2525", "tcp:2525"),
    ],
)
def test_a_unix_socket_is_not_open_to_everybody_unless_asked_for(endpoint: str, expected: str) -> None:
    assert withSocketMode(endpoint) == expected


def test_the_policies_are_listed_with_what_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--list-policies")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "\nrate: " in shown
    assert "\n    deny-file=PATH" in shown


def test_policies_are_asked_in_the_order_of_their_options() -> None:
    assert parse("--policy", "rate:messages=1/m", "--policy", "networks:deny=192.0.2.0/24").policies == [
        "rate:messages=1/m",
        "networks:deny=192.0.2.0/24",
    ]
