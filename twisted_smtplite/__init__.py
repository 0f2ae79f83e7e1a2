"""twisted-smtplite: the SMTP server that people embed.

What applications and backends need is in `twisted_smtplite.interfaces` (what to implement), `twisted_smtplite.model` (the values),
`twisted_smtplite.wire` (the protocol and its factory) and `twisted_smtplite.app` (the service).
"""

__version__ = "0.1.0"
