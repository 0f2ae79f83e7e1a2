"""A Postfix of our own: with its own configuration, queue and data, run by the test and ended with it. It listens nowhere.

Knows how Postfix is set up and stopped. Must not know what is tested with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from listener import PATIENCE, program, run

_MAIN = """compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = client.test
myorigin = client.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = native
lmtp_host_lookup = native
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
"""
_MASTER = """pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A private instance. Reports that it writes itself are thrown away, so that nothing comes but what was sent.

    Attributes:
        log: its log.
    """

    def __init__(self) -> None:
        # Its users must be able to go there, and a socket's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.log = self.directory / "log"
        self._configuration = self.directory / "conf"
        self._master: subprocess.Popen[bytes] | None = None

    async def start(self, **settings: str) -> None:
        """Starts it, with these settings of main.cf besides ours."""
        for name in ("conf", "queue", "data"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        main = _MAIN.format(directory=self.directory) + "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self._configuration / "main.cf").write_text(main)
        (self._configuration / "master.cf").write_text(_MASTER)
        (self.directory / "transport").write_text("client.test discard:\n")
        for path in (self._configuration / "main.cf", self.directory / "transport"):
            age(path)
        # Makes the directories of the queue.
        checked = await run("postfix", "-c", self._configuration, "check")
        assert checked.returncode == 0, checked.stdout
        programs = (await run("postconf", "-c", self._configuration, "-h", "daemon_directory")).stdout.decode().strip()
        # It ends its process group with itself; and by itself, should we not come to that.
        self._master = subprocess.Popen(
            [f"{programs}/master", "-c", str(self._configuration), "-d", "-e", str(int(4 * PATIENCE))],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def send(self, content: bytes, *arguments: str) -> None:
        """Hands a message over by its sendmail command."""
        done = await run("sendmail", "-C", str(self._configuration), "-i", *arguments, content=content.replace(b"\r\n", b"\n"))
        assert done.returncode == 0, done.stdout

    def stop(self) -> None:
        """Ends it, and removes its files."""
        if self._master is not None:
            self._master.terminate()
            self._master.wait(PATIENCE)
        shutil.rmtree(self.directory)


def age(path: Path) -> None:
    """Makes a file look old: each of Postfix's programs waits for seconds while its configuration may still be written to."""
    os.utime(path, (1, 1))


def whyNot() -> str | None:
    """Why it cannot be run here, or None."""
    if program("postfix") is None:
        return "postfix is not installed"
    return "only root can run Postfix" if os.geteuid() else None


def whyNoLogin() -> str | None:
    """Why it cannot authenticate here, or None: the mechanisms are libraries that it loads, and a package of their own."""
    found = [*Path("/usr").glob("lib*/sasl2/libplain.so*"), *Path("/usr/lib").glob("*/sasl2/libplain.so*")]
    return None if found else "the SASL mechanisms (libsasl2-modules) are not installed"
