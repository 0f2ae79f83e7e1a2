"""An Exim of our own that receives mail.

Knows how Exim is set up as a server. Must not know what is tested with it.
"""

from __future__ import annotations

import os
import pwd

from listener import PASSWORD, USER, program
from mailserver import BOXES, MailServer
from test_exim import whyNot

_CONFIGURATION = """primary_hostname = mx.test
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/pid
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {ports.starttls} : {ports.implicit} : {ports.bare}
tls_on_connect_ports = {ports.implicit}
disable_ipv6
message_size_limit = 16M
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
tls_certificate = {certificate}
tls_privatekey = {key}
tls_advertise_hosts = ${{if eq{{$received_port}}{{{ports.bare}}}{{}}{{*}}}}
chunking_advertise_hosts = ${{if eq{{$received_port}}{{{ports.bare}}}{{}}{{*}}}}
pipelining_advertise_hosts = ${{if eq{{$received_port}}{{{ports.bare}}}{{}}{{*}}}}
dsn_advertise_hosts = ${{if eq{{$received_port}}{{{ports.bare}}}{{}}{{*}}}}
smtputf8_advertise_hosts = ${{if eq{{$received_port}}{{{ports.bare}}}{{}}{{*}}}}
prdr_enable
acl_smtp_mail = accept
acl_smtp_rcpt = recipient
acl_smtp_data = accept
acl_smtp_data_prdr = each
{run_as}

begin acl
recipient:
  deny !domains = mx.test
       message = relaying denied
  require verify = recipient
  accept
each:
  defer local_parts = full
        message = the box is full
  accept

begin routers
boxes:
  driver = accept
  local_parts = {boxes} : jörg : full
  transport = box

begin transports
box:
  driver = appendfile
  maildir_format
  directory = {directory}/mail/$local_part_data
  create_directory
  return_path_add
  envelope_to_add
  {owner}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_set_id = $auth2
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_set_id = $auth1
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_set_id = $auth1
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
"""


class Exim(MailServer):
    """A private instance. ``full`` has no room, which is told where PRDR asks for it.

    Its bare port has neither TLS nor PIPELINING, CHUNKING, DSN and SMTPUTF8.
    """

    name = "exim"
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5")

    def __init__(self) -> None:
        super().__init__()
        self.log = self.directory / "mainlog"

    @classmethod
    def whyNot(cls) -> str | None:
        return whyNot()

    def configure(self) -> list[str]:
        certificate, key = self.certify()
        runAs, owner = "", "user = Debian-exim"
        if os.geteuid() == 0:
            user = pwd.getpwnam("Debian-exim")
            for path in (self.directory, key):
                os.chown(path, user.pw_uid, user.pw_gid)
        else:
            own = pwd.getpwuid(os.geteuid())
            runAs, owner = f"exim_user = {own.pw_uid}\nexim_group = {own.pw_gid}\ndeliver_drop_privilege", ""
        configuration = self.directory / "conf"
        values = {"program": program("exim4"), "directory": self.directory, "ports": self.ports, "certificate": certificate, "key": key}
        people = {"boxes": " : ".join(BOXES), "user": USER, "password": PASSWORD, "run_as": runAs, "owner": owner}
        configuration.write_text(_CONFIGURATION.format(**values, **people))
        configuration.chmod(0o644)
        return [str(program("exim4")), "-C", str(configuration), "-bdf"]
