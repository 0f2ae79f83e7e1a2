"""SMTP on Twisted: the protocol, its factory, and how long they wait. Knows no backend."""
