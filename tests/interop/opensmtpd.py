"""An OpenSMTPD of our own that receives mail.

Knows how OpenSMTPD is set up, and how it is kept from the directories of the system. Must not know what is tested with it.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from listener import USER, program
from mailserver import BOXES, MailServer, missing, notRoot

_CONFIGURATION = """pki mx.test cert "{certificate}"
pki mx.test key "{key}"
table users file:{directory}/users
table boxes {{ {boxes} }}
smtp max-message-size 16M
listen on 127.0.0.1 port {ports.starttls} hostname mx.test tls pki mx.test auth-optional <users>
listen on 127.0.0.1 port {ports.implicit} hostname mx.test smtps pki mx.test auth-optional <users>
listen on 127.0.0.1 port {ports.bare} hostname mx.test no-dsn
action keep mda "%{{dest.user}} '%{{sender}}'" virtual <boxes>
match from any for domain "mx.test" action keep
"""
# What crypt(3) makes of `listener.PASSWORD`; newer Pythons cannot.
_HASH = "$6$abc$2Po6acJNyyOmyUij7SP6CoAKoneYR.M4Mc0CWT/1cyXJs5GYQtH3klopjKJYxzTsdbHJ.ziW5vCK1h8sC6lac1"
# It finds its queue, its socket and its programs at paths that are built in, so it gets a view of the file system in which these are its own.
_ALONE = """set -e
mount --make-rprivate /
for path in /var/spool /run /var/lib /usr/libexec; do mount -t tmpfs -o mode=755 none $path; done
mkdir -m 711 /var/spool/smtpd
mkdir -p /var/lib/opensmtpd/empty /usr/libexec/opensmtpd
cp {directory}/store /usr/libexec/opensmtpd/mail.mda
exec {program} -d -f {directory}/conf
"""
# Runs in the place of the program that would run a user's command: the command is the box and the sender.
_STORE = """#!/bin/sh
set -e
umask 022
eval "set -- $1"
box={directory}/mail/$1
mkdir -p $box/new $box/tmp
{{ printf 'Return-Path: <%s>\\n' "$2"; cat; }} >$box/tmp/$$
mv $box/tmp/$$ $box/new/$$
"""


class OpenSMTPD(MailServer):
    """A private instance. Its bare port has no TLS and no DSN."""

    name = "opensmtpd"
    mechanisms = ("PLAIN", "LOGIN")

    def __init__(self) -> None:
        super().__init__()
        self.log = self.directory / "output"

    @classmethod
    def whyNot(cls) -> str | None:
        found = missing("opensmtpd", "unshare") or notRoot()
        if found:
            return found
        if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
            return "its own view of the file system is not allowed here"
        version = subprocess.run([str(program("opensmtpd")), "-h"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        # What Debian 12 has: no handshake succeeds with OpenSSL 3.
        return "OpenSMTPD is older than 7" if re.search(rb"OpenSMTPD [1-6]\.", version) else None

    def configure(self) -> list[str]:
        certificate, key = self.certify()
        # It wants an account for each box.
        boxes = ", ".join(f'"{name}@mx.test" = "nobody"' for name in BOXES)
        values = {"directory": self.directory, "ports": self.ports, "certificate": certificate, "key": key, "boxes": boxes}
        (self.directory / "conf").write_text(_CONFIGURATION.format(**values))
        (self.directory / "users").write_text(f"{USER} {_HASH}\n")
        (self.directory / "users").chmod(0o644)
        (self.directory / "store").write_text(_STORE.format(directory=self.directory))
        (self.directory / "store").chmod(0o755)
        (self.directory / "mail").mkdir()
        shutil.chown(self.directory / "mail", "nobody")
        return ["unshare", "-m", "sh", "-c", _ALONE.format(directory=self.directory, program=program("opensmtpd"))]
