"""Shows the delivery to Twisted's plugin system."""

from smtplite_jsonlines import plugin

__all__ = ["plugin"]
