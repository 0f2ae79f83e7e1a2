"""How the service fits into twistd and twist: their options, their log, their user and their directory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import Application, MultiService
from twisted.application.twist._options import TwistOptions
from twisted.internet.address import IPv4Address
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver
from twisted.scripts.twistd import ServerOptions

from twisted_smtplite.app import tap
from twisted_smtplite.app.log import EventLines, JSONForm, LogStream, TextForm
from twisted_smtplite.app.options import Options
from twisted_smtplite.app.service import CannotListen, SMTPService

NULL = ("--delivery", "null")


def twistd(*options: str, ours: tuple[str, ...] = NULL) -> Options:
    """Our options as a part of twistd's."""
    config = ServerOptions()
    config.parseOptions([*options, "smtplite", "--port", "0", *ours])
    subOptions = config.subOptions
    assert isinstance(subOptions, Options)
    return subOptions


def twist(*options: str, ours: tuple[str, ...] = NULL) -> Options:
    """Our options as a part of twist's."""
    config = TwistOptions()
    config.parseOptions([*options, "smtplite", "--port", "0", *ours])
    subOptions = config.subOptions
    assert isinstance(subOptions, Options)
    return subOptions


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Generator[Callable[[Options], tap.ServerService], None, None]:
    services = []

    def make(options: Options) -> tap.ServerService:
        services.append(tap.makeService(options))
        return services[-1]

    yield make
    for service in services:
        pytest_twisted.blockon(service.stopService())


Make = Callable[[Options], tap.ServerService]


def test_the_service_of_twistd_brings_the_observer_of_its_log(make: Make) -> None:
    application = Application("smtplite")
    service = make(twistd("-n"))
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is service.stream
    assert service.stream is not None


def test_the_port_is_open_before_the_service_starts(make: Make) -> None:
    (address,) = make(twistd("-n")).addresses
    assert isinstance(address, IPv4Address)
    assert (address.host, address.port != 0) == ("127.0.0.1", True)


@pytest.mark.parametrize("options", [["-n", "--syslog"], ["-n", "--logger", "twisted.logger.textFileLogObserver"]])
def test_a_log_that_is_not_ours_to_choose_gets_events(options: list[str], make: Make) -> None:
    application = Application("smtplite")
    service = make(twistd(*options))
    service.setServiceParent(application)
    assert service.stream is None
    assert application.getComponent(ILogObserver) is None


def test_in_an_application_of_ones_own_messages_are_events(make: Make) -> None:
    options = Options()
    options.parseOptions(["--port", "0", *NULL])
    service = make(options)
    service.setServiceParent(MultiService())
    assert service.stream is None


@pytest.mark.parametrize(
    ("options", "form"), [(["--log-format=text"], TextForm), (["--log-format=json"], JSONForm), (["--log-format=json", "--log-file=x"], JSONForm)]
)
def test_twist_logs_by_our_stream_in_its_form_to_its_file(options: list[str], form: type) -> None:
    subOptions = twist(*options)
    lines = tap.chooseLines(subOptions, MemoryReactorClock())  # type: ignore[arg-type]
    assert isinstance(lines, LogStream)
    assert isinstance(lines.form, form)
    assert isinstance(subOptions.parent, TwistOptions)
    assert subOptions.parent["fileLogObserverFactory"](sys.stderr) is lines


def test_our_log_format_goes_before_that_of_twist() -> None:
    lines = tap.chooseLines(twist("--log-format=text", ours=("--log-format", "json")), MemoryReactorClock())  # type: ignore[arg-type]
    assert isinstance(lines.form, JSONForm)


def test_the_log_file_is_turned_at_sigusr1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    reactor: Any = MemoryReactorClock()
    reactor.callFromThread = lambda function: reactor.callLater(0, function)
    lines = tap.chooseLines(twistd(), reactor)
    assert isinstance(lines, LogStream)
    lines({"log_format": "one"})
    handlers[signal.SIGUSR1](signal.SIGUSR1, None)
    reactor.advance(0)
    lines({"log_format": "two"})
    assert [(tmp_path / name).read_text() for name in ("twistd.log.1", "twistd.log")] == ["- [-#-] one\n", "- [-#-] two\n"]
    monkeypatch.setitem(handlers, signal.SIGUSR1, "somebody else's")
    tap.chooseLines(twistd(), reactor)
    assert handlers[signal.SIGUSR1] == "somebody else's"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--chroot", "/"], "smtplite: twistd --chroot cannot be used: files and ports are opened before the change of root"),
        (["-n", "--rundir", "/nonexistent"], "smtplite: twistd --rundir /nonexistent: No such file or directory"),
        (["--logfile", "/nonexistent/log"], "smtplite: twistd --logfile /nonexistent/log: No such file or directory"),
        (["--logfile", "-"], "smtplite: twistd --logfile -: only a server in the foreground (twistd -n) can log to standard output"),
    ],
)
def test_what_twistd_cannot_give_us(options: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as raised:
        tap.makeService(twistd(*options))
    assert raised.value.code == sentence


def test_relative_paths_are_meant_from_the_run_directory(tmp_path: Path, make: Make) -> None:
    (tmp_path / "run").mkdir()
    service = make(twistd("-n", "--rundir", "run", ours=("--listen", "unix:s", "--delivery", "maildir:M")))
    assert (tmp_path / "run" / "s").exists()
    assert [child.path for child in service] == [str(tmp_path / "run" / "M")]
    assert Path.cwd() == tmp_path
    # Closing removes the socket where twistd will be by then.
    os.chdir("run")


@pytest.mark.parametrize(("options", "user"), [(["-u", "65534", "-g", "65533"], (65534, 65533)), (["-g", "65533"], (os.geteuid(), 65533))])
def test_deliveries_are_made_as_the_user_that_twistd_will_be(
    options: list[str], user: tuple[int, int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: list[tuple[int, int]] = []

    def asUser(uid: int, gid: int, function: Callable[[], object]) -> object:
        users.append((uid, gid))
        return function()

    monkeypatch.setattr(tap, "runAsEffectiveUser", asUser)
    make(twistd("-n", *options))
    assert users == [user]


def test_the_group_is_the_users_own_when_none_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    root = pwd.getpwuid(0)
    users: list[tuple[int, int]] = []
    monkeypatch.setattr(tap, "runAsEffectiveUser", lambda uid, gid, function: users.append((uid, gid)) or function())
    make(twistd("-n", "-u", root.pw_name))
    assert users == [(0, root.pw_gid)]


def test_a_wrong_value_ends_twistd_with_a_sentence_and_not_with_its_help() -> None:
    with pytest.raises(SystemExit) as raised:
        twistd(ours=("--max-size", "x"))
    assert str(raised.value.code).startswith("smtplite: --max-size x: ")


def test_several_deliveries_each_start_and_stop_with_the_service(make: Make, tmp_path: Path) -> None:
    service = make(twistd("-n", ours=("--delivery", "maildir:one", "--delivery", "null", "--delivery", "maildir:two")))
    service.startService()
    assert [child.path for child in service] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert all(child.running for child in service)


def test_the_process_ends_when_an_endpoint_fails_after_the_start() -> None:
    reactor = MemoryReactorClock()
    stopped: list[object] = []

    def stop() -> None:
        stopped.append(None)
        if len(stopped) > 1:
            raise ReactorNotRunning

    reactor.stop = stop  # type: ignore[method-assign]
    service = tap.ServerService(EventLines(TextForm()), reactor, None, [])
    for _ in range(2):
        service.listeningFailed(CannotListen(None, RuntimeError("no network")))  # type: ignore[arg-type]
    # It may not run yet.
    assert stopped == []
    for hook, arguments, _ in reactor.whenRunningHooks:
        hook(*arguments)
    assert stopped == [None, None]
    SMTPService.listeningFailed(service, CannotListen(None, None))  # type: ignore[arg-type]
    assert stopped == [None, None]


def test_policies_are_made_in_order_from_the_run_directory(tmp_path: Path, make: Make) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "deny").write_text("client.test\n")
    policies = ("--policy", "senders:deny-file=deny", "--policy", "rate:messages=1/m")
    chain = make(twistd("-n", "--rundir", "run", ours=(*NULL, *policies, "--port", "0"))).factory.chain
    assert [type(policy).__name__ for policy in chain.policies] == ["SenderPolicy", "RatePolicy"]


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [("rates:x", r"--policy: unknown policy 'rates:x': the known ones are .*"), ("rate:x", r"--policy: policy 'rate:x': 'x' is none of .*")],
)
def test_a_policy_that_cannot_be_made_is_said(policy: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=f"^smtplite: {sentence}$"):
        tap.makeService(twistd("-n", ours=(*NULL, "--policy", policy)))
