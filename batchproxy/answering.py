"""Telling one waiter its answer, so that nothing it does can strand those after it. Decides nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchproxy.core.request import Entry

logger = logging.getLogger("batchproxy.answering")

_UNANSWERED = "model %r: a caller could not be answered. This is a bug."


def answer(entry: Entry, said: Reply | BatchProxyError) -> None:
    """Tell one waiter, if it still wants to know. One that breaks must not strand those after it."""
    entry.home = None  # a batch and its members know each other; apart, they go at once, without the collector
    waiter = entry.waiter
    if waiter.done():
        return
    try:
        if isinstance(said, Reply):
            waiter.set_result(said)
        else:
            waiter.set_exception(said)
    except Exception:
        logger.exception(_UNANSWERED, entry.request.key.model)


def answer_all(members: Sequence[Entry], replies: Sequence[Reply]) -> None:
    """Tell each member of a call its own answer; as ``answer``, which it spells out.

    Args:
        members: of the call.
        replies: one for each, or none.
    """
    for member, reply in zip(members, replies, strict=False):
        member.home = None
        waiter = member.waiter
        if not waiter.done():
            try:
                waiter.set_result(reply)
            except Exception:
                logger.exception(_UNANSWERED, member.request.key.model)
