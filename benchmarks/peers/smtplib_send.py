"""Sends a Maildir with the standard library, over one connection, as it is usually written: smtplib_send.py HOST PORT MAILDIR COUNT message|octets.

``message`` hands each over as an email.message, ``octets`` as it is in its file but for its line ends, with only its header section parsed.
"""

from __future__ import annotations

import mailbox
import smtplib
import sys
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from itertools import islice
from pathlib import Path


def main() -> None:
    host, port, path, count, form = sys.argv[1:]
    with smtplib.SMTP(host, int(port), timeout=60) as client:
        if form == "message":
            for message in islice(mailbox.Maildir(path, create=False), int(count)):
                client.send_message(message)
        else:
            parser = BytesHeaderParser()
            for file in islice((Path(path) / "new").iterdir(), int(count)):
                # As octets it sends line ends as they are, and in a file they are the system's.
                content = file.read_bytes().replace(b"\n", b"\r\n")
                fields = parser.parsebytes(content)
                sender, *_ = (address for _, address in getaddresses(fields.get_all("From", [])))
                client.sendmail(sender, [address for _, address in getaddresses(fields.get_all("To", []))], content)


main()
