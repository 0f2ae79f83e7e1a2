"""The documentation is true: its examples run, its tables say what the code says."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docpage import MESSAGE, blocks, send

import twisted_smtplite
from twisted_smtplite.dialogue.extensions import EXTENSIONS
from twisted_smtplite.dialogue.table import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = Path(twisted_smtplite.__file__).parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in DOCS.rglob("*.md") if "examples" not in page.parts)])
SCRIPTS = sysconfig.get_path("scripts")
# A line of a shell example that starts a server, which then runs until the page is done or starts another.
_SERVER = re.compile(r"(.*&& )?(\S*/)?(twistd -n|twist|python -m twisted_smtplite|smtplite)\b(?!.*(--(help|list)| (export|queue|send|sendmail) ))")
_ROW = re.compile(r"^\| *([^|\n]+?) *\|(?:[^|\n]*\|)*? *(Yes|Partial|No) *\| *([^|\n]*?) *\|$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")


def named(pages: list[Path]) -> list[object]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


# -- examples


@pytest.mark.parametrize("page", named([page for page in PAGES if blocks(page, "python")]))
def test_python_examples_run(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:example", ROOT / "tests" / "docpage.py", page],
        cwd=tmp_path, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def freePort() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def waitFor(port: int, server: subprocess.Popen[str]) -> None:
    """Waits, half a minute at most, until the server listens. To connect and leave is not an event for an SMTP server."""
    for _ in range(300):
        if server.poll() is not None:
            raise AssertionError(f"the server ended with status {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")


@contextmanager
def shell(directory: Path) -> Iterator[ShellReader]:
    reader = ShellReader(directory)
    try:
        yield reader
    finally:
        reader.stopServer()


class ShellReader:
    """A reader who types a page's commands into a terminal, on another port than 2525."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.with_name(f"{directory.name}.log")
        self.server: subprocess.Popen[str] | None = None
        self.port = freePort()

    def type(self, line: str) -> str:
        """Runs one command and returns what it printed, or starts the server that it names and waits until that listens."""
        command = re.sub(r"\b2525\b", str(self.port), line)
        environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
        arguments = ["bash", "-c", f"set -o pipefail; {'exec ' if _SERVER.match(line) and '&&' not in line else ''}{command}"]
        if _SERVER.match(line):
            self.stopServer()
            with self.log.open("a") as log:
                self.server = subprocess.Popen(arguments, cwd=self.directory, env=environment, stdout=log, text=True, start_new_session=True)
            waitFor(self.port, self.server)
            return ""
        done = subprocess.run(arguments, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def stopServer(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, 15)
            self.server.wait(30)
            self.server = None


def shellLines(page: Path) -> list[str]:
    """The commands of the ``sh`` blocks of a page; the README's set-up, which takes minutes, left out."""
    text = "".join(block for _, block in blocks(page, "sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith(("#", "python3 -m venv"))]


@pytest.mark.parametrize("page", named([page for page in PAGES if shellLines(page)]))
def test_shell_examples_run(page: Path, tmp_path: Path) -> None:
    lines = shellLines(page)
    for program in ("swaks", "curl", "msmtp"):
        if any(line.startswith(program) for line in lines) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if any("docs/" in line for line in lines):
        shutil.copytree(DOCS, tmp_path / "docs")
    with shell(tmp_path) as reader:
        for line in lines:
            reader.type(line)
    # Each client that has sent something says goodbye.
    assert re.findall(r"broken-session .* messages=[1-9].*", reader.log.read_text() if reader.log.exists() else "") == []


def setupCommands() -> list[str]:
    """The commands that README opens with."""
    return [line for _, block in blocks(ROOT / "README.md", "sh")[:2] for line in block.splitlines()]


def test_readme_opens_with_two_commands_and_ci_runs_the_second() -> None:
    start, check = setupCommands()
    assert start.endswith("twistd -n smtplite --port 2525")
    assert check.endswith("-m pytest")
    ci = ROOT / ".ci" / "run"
    assert "grep -m1 -E '^python3 .*pytest$' README.md" in ci.read_text()


# Other people's mail programs, in Perl and C; each sends its standard input.
CLIENTS = {
    "swaks": "head -c -2 | swaks --silent 2 --server 127.0.0.1:PORT --from ann@client.test --to ben@mx.test --data -",
    "curl": "curl -sS smtp://127.0.0.1:PORT --mail-from ann@client.test --mail-rcpt ben@mx.test -T -",
    "msmtp": "tr -d '\\r' | msmtp --host=127.0.0.1 --port=PORT --tls=off --auth=off "
    "--set-date-header=off --set-msgid-header=off --from=ann@client.test ben@mx.test",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_set_up_works_in_a_fresh_copy(tmp_path: Path) -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    start, check = setupCommands()
    prepare, _, serve = start.rpartition(" && ")
    subprocess.run(["bash", "-c", prepare], cwd=tmp_path, check=True, timeout=400)
    with shell(tmp_path) as reader:
        reader.type(serve)
        send(reader.port)
        clients = [client for client in CLIENTS if shutil.which(client)]
        for client in clients:
            command = CLIENTS[client].replace("PORT", str(reader.port))
            subprocess.run(["bash", "-c", command], input=MESSAGE, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    stored = [path.read_bytes() for path in (tmp_path / "Maildir" / "new").iterdir()]
    assert len(stored) == 1 + len(clients)
    for content in stored:
        trace, _, message = content.partition(b"From: ann@")
        assert b"From: ann@" + message == MESSAGE.replace(b"\r\n", b"\n")
        assert trace.startswith(b"Return-Path: <ann@client.test>\n")
        assert trace.count(b"\nReceived: from ") == 1
    # The tests themselves ran already: that they are found, in the environment which the command makes, is enough here.
    subprocess.run(["bash", "-c", f"{check} --collect-only -q"], cwd=tmp_path, check=True, timeout=400)


# -- the service page


SERVICE_PAGE = DOCS / "howto" / "run-as-a-service.md"


def unitLine(key: str) -> str:
    """The value of `key` in the units of the service page."""
    (value,) = re.findall(rf"^{key}=(.*)$", SERVICE_PAGE.read_text(), re.MULTILINE)
    return str(value)


def test_the_service_takes_the_socket_that_systemd_opened(tmp_path: Path) -> None:
    command = unitLine("ExecStart").replace("/opt/smtplite/bin/", f"{SCRIPTS}/").replace("/var/lib/smtplite", str(tmp_path))
    with socket.socket(socket.AF_INET6) as listening:
        try:
            listening.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listening.listen()
        # As systemd passes it: descriptor 3, named, for this process alone.
        server = subprocess.Popen(
            ["bash", "-c", f"exec 3<&{listening.fileno()}; export LISTEN_PID=$$; exec {command}"],
            cwd=tmp_path,
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": unitLine("FileDescriptorName")},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        try:
            send(listening.getsockname()[1], "::1")
        finally:
            server.terminate()
            server.wait(30)
    assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    (_, socketUnit), (_, serviceUnit) = blocks(SERVICE_PAGE, "ini")
    (tmp_path / "smtplite.socket").write_text(socketUnit)
    (tmp_path / "smtplite.service").write_text(serviceUnit.replace("/opt/smtplite/bin/twistd", shutil.which("true") or "true"))
    units = [tmp_path / "smtplite.socket", tmp_path / "smtplite.service"]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=50)
    ours = [line for line in done.stderr.splitlines() if "smtplite" in line]
    assert ours == []


# -- tables


def rows(page: Path) -> dict[str, tuple[str, str]]:
    """Each name in the first cells of the Yes / Partial / No tables of a page -> (that word, the last cell)."""
    return {name: (word, last) for first, word, last in _ROW.findall(page.read_text()) for name in first.split(", ")}


SUPPORT = rows(DOCS / "reference" / "rfc-and-extensions.md")


def supported(name: str) -> bool:
    return SUPPORT.get(name, ("No", ""))[0] != "No"


def test_every_extension_is_in_the_table() -> None:
    missing = [extension.keyword for extension in EXTENSIONS if not supported(extension.keyword)]
    assert missing + [extension.rfc for extension in EXTENSIONS if extension.rfc.startswith("RFC") and not supported(extension.rfc)] == []


def test_every_command_is_in_the_table() -> None:
    assert [verb for verb in COMMANDS if verb not in SUPPORT] == []
    # HELP tells of the commands that there are; the others are known to be refused.
    assert {verb for verb, command in COMMANDS.items() if command.help} == {verb for verb in COMMANDS if supported(verb)}


def test_what_is_supported_names_the_test_that_shows_it() -> None:
    assert [name for name, (word, shown) in SUPPORT.items() if word != "No" and not _LINK.search(shown)] == []


def citations() -> list[tuple[str, str]]:
    """Every ``RFC nnnn`` in the package, with where it stands."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [(f"{path.relative_to(PACKAGE)}:{number}", cited) for cited in re.findall(r"\bRFC \d+", line)]
    return found


def test_every_cited_rfc_is_in_the_table() -> None:
    assert [(where, cited) for where, cited in citations() if not supported(cited)] == []


def test_comments_cite_a_section_and_say_why() -> None:
    section = r"(?:Appendix )?[\dA-Z][\d.]*(?: ?\(\w+\))?"
    form = re.compile(rf"# RFC \d+ {section}(?:(?:, | and | to )(?:RFC \d+ )?{section})*[:;] \S")
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.lstrip().startswith("# RFC") and form.match(line.lstrip()) is None:
                wrong.append(f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}")
    assert wrong == []


def test_generated_tables_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", named(PAGES))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text()) if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
