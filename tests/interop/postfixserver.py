"""A Postfix of our own that receives mail.

Knows how Postfix is set up as a server. Must not know what is tested with it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mailserver import BOXES, MailServer, missing, notRoot
from postfix import age

_MAIN = """compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = mx.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtputf8_enable = yes
message_size_limit = 16777216
virtual_mailbox_limit = 0
virtual_mailbox_domains = mx.test
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{{{boxes} jörg@mx.test=jörg/}}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
{login}
"""
_LOGIN = """smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {secrets}
smtpd_sasl_security_options =
"""
_MASTER = """{ports.starttls} inet n - n - - smtpd
{ports.implicit} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
{ports.bare} inet n - n - - smtpd -o smtpd_tls_security_level=none -o smtpd_discard_ehlo_keywords=pipelining,chunking,dsn,smtputf8
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
"""


class PostfixServer(MailServer):
    """A private instance. Its bare port has neither TLS nor PIPELINING, CHUNKING, DSN and SMTPUTF8.

    Args:
        secrets: where Dovecot answers about passwords; None for a server without AUTH.
    """

    name = "postfix"

    def __init__(self, secrets: Path | None = None) -> None:
        super().__init__()
        self._secrets = secrets
        if secrets is not None:
            self.mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")

    @classmethod
    def whyNot(cls) -> str | None:
        return missing("postfix") or notRoot()

    def configure(self) -> list[str]:
        certificate, key = self.certify()
        for name in ("conf", "queue", "data", "mail"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mail", "nobody")
        boxes = " ".join(f"{name}@mx.test={name}/" for name in BOXES)
        login = _LOGIN.format(secrets=self._secrets) if self._secrets else ""
        configuration = self.directory / "conf"
        main = _MAIN.format(directory=self.directory, boxes=boxes, certificate=certificate, key=key, login=login)
        (configuration / "main.cf").write_text(main)
        age(configuration / "main.cf")
        (configuration / "master.cf").write_text(_MASTER.format(ports=self.ports))
        # Makes the directories of the queue.
        checked = subprocess.run(["postfix", "-c", str(configuration), "check"], capture_output=True)
        assert checked.returncode == 0, checked.stderr
        programs = subprocess.run(["postconf", "-c", str(configuration), "-h", "daemon_directory"], capture_output=True, check=True)
        return [f"{programs.stdout.decode().strip()}/master", "-c", str(configuration), "-d"]
