"""Processes under measurement: compiled, started on a core of their own, looked at through /proc, stopped.

Knows Linux. Must not know SMTP.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LISTEN = "0A"
# linux/fs.h: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS where a long has 64 bits, FS_TOPDIR_FL.
_GET_FLAGS, _SET_FLAGS, _TOP_DIRECTORY = 0x80086601, 0x40086602, 0x20000
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class CannotRun(Exception):
    """A measurement cannot be made here; the text is the sentence that the user reads."""


def cores() -> tuple[int, int]:
    """The core of the server and the core of the load generator: different ones when there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes and threads started within stay on `core`; with None they go where they like."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raiseFileLimit() -> None:
    """Lets this process, and those it starts, open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keepApart(directory: Path) -> None:
    """Makes a directory whose subdirectories the file system keeps far from each other, where it can (ext4).

    Otherwise the files of all servers share one table, in which each new file passes over all that were deleted in the seconds before: what one
    server deletes, the next one pays for with up to a millisecond of processor time for each message.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(struct.calcsize("l"))))[0]
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | _TOP_DIRECTORY))
    except OSError:
        pass
    finally:
        os.close(descriptor)


def compileLoad(directory: Path) -> Path:
    """Compiles the load generator into `directory` and returns the program.

    Raises:
        CannotRun: there is no C compiler, or it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotRun("The load generator is written in C: install a C compiler (Debian: apt install gcc libc6-dev).")
    program = directory / "load"
    source = Path(__file__).with_name("load.c")
    command = [compiler, "-O2", "-std=gnu11", "-o", str(program), str(source)]
    # With TLS where the headers of OpenSSL are there.
    done = subprocess.run([*command, "-DWITH_TLS", "-lssl", "-lcrypto"], capture_output=True, text=True)
    if done.returncode:
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotRun(f"The load generator does not compile:\n{done.stderr}")
    return program


def makeCertificate(directory: Path) -> Path:
    """A new certificate for loopback, signed by itself, and its key behind it: a PEM file in `directory`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
    certificate = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, SHA256())
    pem = directory / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    return pem


class Process:
    """A server process, with its children.

    Attributes:
        pid: of the process that was started.
        port: where it listens on loopback.
        log: what it wrote to stdout and stderr.
    """

    def __init__(self, command: Sequence[str], core: int | None, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        """Starts `command` in `directory` and waits until it listens.

        Raises:
            CannotRun: it ended, or listens nowhere after 20 seconds.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        with self.log.open("wb") as output, pinned(core):
            self._child = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._child.pid
        try:
            self.port = self._waitForPort(command)
        except BaseException:
            self.stop()
            raise

    def _waitForPort(self, command: Sequence[str]) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._child.poll() is None:
            ports = listeningPorts(self.pids())
            if ports:
                return ports[0]
            time.sleep(0.05)
        raise CannotRun(f"{' '.join(command)} does not listen. It said:\n{self.log.read_text(errors='replace')}")

    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in _read(children).split()]
        return found

    def cpuSeconds(self) -> float:
        """Processor time used so far, user and system."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in self.pids():
            # The name in parentheses may hold spaces: fields are counted from behind it.
            fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0
        return total / tick

    def residentKibibytes(self) -> int:
        """Memory in use (resident set), in KiB."""
        total = 0
        for pid in self.pids():
            for line in _read(Path(f"/proc/{pid}/status")).splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

    def stop(self) -> None:
        """Ends the process and its children: politely, then not."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, sign)
            except ProcessLookupError:
                pass
            try:
                self._child.wait(_STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue


def listeningPorts(pids: Sequence[int]) -> list[int]:
    """The TCP ports on which any of `pids` listens, so that no server has to be asked in its own way for the port it got."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    ports = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in _read(Path(table)).splitlines()[1:]:
            fields = row.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                ports.append(int(fields[1].rpartition(":")[2], 16))
    return ports


def _read(path: Path) -> str:
    """The text of a file under /proc, empty when its process is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
