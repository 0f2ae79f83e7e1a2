"""Sending mail: what an application calls. Must not know the command line or the queue."""
