"""A Dovecot of our own: an LMTP server, and the one who knows passwords for the others.

Knows how Dovecot is set up. Must not know what is tested with it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path

from listener import PASSWORD, USER, program
from mailserver import BOXES, MailServer, missing

_CONFIGURATION = """base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = lmtp
listen = 127.0.0.1
hostname = mx.test
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
mail_location = maildir:{directory}/mail/%n
mail_uid = {owner}
mail_gid = {owner_group}
first_valid_uid = 1
first_valid_gid = 1
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
auth_failure_delay = 0
service stats {{
  chroot =
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {port}
  }}
}}
service auth {{
  unix_listener others {{
    mode = 0666
  }}
}}
"""


class Dovecot(MailServer):
    """A private instance. It has one port, for LMTP with STARTTLS, and a unix socket. The box of ``full`` takes nothing."""

    name = "dovecot"
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")

    @classmethod
    def whyNot(cls) -> str | None:
        if found := missing("dovecot"):
            return found
        return None if Path("/usr/lib/dovecot/lmtp").exists() else "dovecot-lmtpd is not installed"

    @property
    def socket(self) -> Path:
        """Where it speaks LMTP without TLS."""
        return self.directory / "run" / "lmtp"

    @property
    def secrets(self) -> Path:
        """Where other servers ask it about passwords."""
        return self.directory / "run" / "others"

    def configure(self) -> list[str]:
        self.ports = self.ports._replace(implicit=self.ports.starttls, bare=self.ports.starttls)
        certificate, key = self.certify()
        own = pwd.getpwuid(os.geteuid()).pw_name
        internal, login, owner = ("dovecot", "dovenull", "nobody") if own == "root" else (own, own, own)
        groups = {name: grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name for name in (internal, owner)}
        values = {"directory": self.directory, "port": self.ports.starttls, "certificate": certificate, "key": key}
        users = {"internal": internal, "internal_group": groups[internal], "login": login, "owner": owner, "owner_group": groups[owner]}
        configuration = self.directory / "conf"
        configuration.write_text(_CONFIGURATION.format(**values, **users, mechanisms=" ".join(self.mechanisms).lower()))
        # A directory cannot be made below a file, by whomever.
        full = f"full:{{PLAIN}}none::::::userdb_mail=maildir:{configuration}/none\n"
        passwords = {**dict.fromkeys(BOXES, "none"), USER: PASSWORD}
        (self.directory / "users").write_text(full + "".join(f"{name}:{{PLAIN}}{secret}::::::\n" for name, secret in passwords.items()))
        (self.directory / "mail").mkdir()
        shutil.chown(self.directory / "mail", owner)
        return [str(program("dovecot")), "-F", "-c", str(configuration)]
