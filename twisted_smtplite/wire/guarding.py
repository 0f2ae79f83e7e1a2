"""The extensions that a delivery adds to the dialogue, with a guard around each: what they do wrong is logged, and hurts no session.

Knows what a row may answer. Must not know any row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from ..dialogue.dialect import Dialect
from ..dialogue.extensions import Extension
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.reply import Refused, Reply

_log = Logger(namespace="smtplite")


def guarded(extension: Extension) -> Extension:
    """The extension, which is not offered to a session where it cannot say what it offers, and whose parameters are answered 451 where they fail."""
    return replace(
        extension,
        advertise=_guardedOffer(extension),
        mail={name: _guardedParser(extension, parser) for name, parser in extension.mail.items()},
        rcpt={name: _guardedParser(extension, parser) for name, parser in extension.rcpt.items()},
    )


def _guardedOffer(extension: Extension) -> Callable[[SessionInfo, Dialect], str | None]:
    def advertise(session: SessionInfo, dialect: Dialect) -> str | None:
        try:
            text = extension.advertise(session, dialect)
            if text is not None:
                # Raises where it cannot be said.
                Reply(250, None, f"{extension.keyword} {text}")
        except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the session goes on
            _failed(extension)
            return None
        return text

    return advertise


def _guardedParser(extension: Extension, parser: Callable[..., Reply | None]) -> Callable[..., Reply | None]:
    def parse(*arguments: Any) -> Reply | None:
        try:
            refusal: object = parser(*arguments)
        except Refused as refused:
            return refused.reply
        except Exception:  # noqa: BLE001 - likewise
            _failed(extension)
            return replies.LOCAL_ERROR
        if refusal is None or (isinstance(refusal, Reply) and not refusal.positive):
            return refusal
        _log.error("The extension {keyword} of a delivery answered {answer!r}, which is no refusal", keyword=extension.keyword, answer=refusal)
        return replies.LOCAL_ERROR

    return parse


def _failed(extension: Extension) -> None:
    _log.failure("The extension {keyword} of a delivery failed", keyword=extension.keyword)
