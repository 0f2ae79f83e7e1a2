"""A message without octets above 127, for a server without 8BITMIME (RFC 6152 3)."""

from __future__ import annotations

LARGEST = 67_108_864
"""Octets of the largest message that is converted: it is held in memory a few times over."""


def sevenBit(text: bytes) -> bytes:
    """See the module."""
    raise NotImplementedError
