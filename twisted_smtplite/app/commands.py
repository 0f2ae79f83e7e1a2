"""The commands of the program ``smtplite`` by name. Knows nothing else: a command is loaded when it is asked for."""

from __future__ import annotations

COMMANDS = ("serve", "send", "sendmail", "queue", "export", "passwd")
"""Each is a module beside this one with a function of the same name, which takes the arguments behind it on the command line."""
