"""The rules of SMTP on bytes and values alone: grammar, state machine, extensions, body reading. No I/O, no clock, no Twisted."""
