"""The commands of the program ``smtplite`` by name. Knows nothing else: a command is loaded when it is asked for."""

from __future__ import annotations

COMMANDS = {
    "serve": "",
    "send": "hand messages to a server",
    "sendmail": "take a message as sendmail does, for programs",
    "queue": "look at the queue of a relay, and change it",
    "export": "write what --delivery sqlite: has stored to files",
    "passwd": "keep the passwords of users",
}
"""Each is a module beside this one with a function of the same name, which takes the arguments behind it on the command line; and what it is for."""
