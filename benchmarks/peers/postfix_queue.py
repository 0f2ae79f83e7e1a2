"""Postfix on a loopback port of the system's choice: it keeps each message in its queue, safe before 250, and then discards it.

A private instance with its own configuration, queue and data in ./postfix-XXXX under /tmp, since its processes must be able to go there. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_MAIN = """compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = mx.test
mydestination =
local_recipient_maps =
alias_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 100
default_transport = discard:
"""
_MASTER = """127.0.0.1:{port} inet n - n - 300 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def freePort() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def main() -> None:
    """Serves until the process is ended."""
    directory = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
    directory.chmod(0o755)
    for name in ("conf", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    (directory / "conf" / "main.cf").write_text(_MAIN.format(directory=directory))
    (directory / "conf" / "master.cf").write_text(_MASTER.format(port=freePort()))
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"}
    subprocess.run(["postfix", "-c", directory / "conf", "check"], check=True, env=environment)
    programs = subprocess.run(
        ["postconf", "-c", directory / "conf", "-h", "daemon_directory"], check=True, env=environment, capture_output=True, text=True
    )
    master = subprocess.Popen([f"{programs.stdout.strip()}/master", "-c", str(directory / "conf"), "-d"])
    signal.signal(signal.SIGTERM, lambda *_: master.terminate())
    try:
        sys.exit(master.wait())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


main()
