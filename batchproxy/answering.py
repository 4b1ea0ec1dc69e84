"""Telling one waiter its answer, so that nothing it does can strand those after it. Decides nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchproxy.core.request import Entry, Waiter

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
    """Tell each member of a call its own answer; those who can be told together are.

    A kind of waiter may have ``set_results``: a static method that takes several of them and the reply to each, and
    does for all of them, but those that are done, what ``set_result`` does for one.

    Args:
        members: of the call.
        replies: one for each, or none.
    """
    if len(replies) > 1:
        kind = type(members[0].waiter)
        together = getattr(kind, "set_results", None)
        if together is not None and _answer_together(kind, together, members, replies):
            return
    for member, reply in zip(members, replies, strict=False):
        answer(member, reply)


def _answer_together(
    kind: type[Waiter],
    together: Callable[[Sequence[Waiter], Sequence[Reply]], None],
    members: Sequence[Entry],
    replies: Sequence[Reply],
) -> bool:
    """Tell those members whose waiters are of one kind; whether that was all."""
    waiters = [member.waiter for member in members if type(member.waiter) is kind]
    theirs = replies
    if len(waiters) < len(members):
        theirs = [reply for member, reply in zip(members, replies, strict=True) if type(member.waiter) is kind]
    for member in members:
        member.home = None  # as ``answer``
    try:
        together(waiters, theirs)
    except Exception:
        logger.exception(_UNANSWERED, members[0].request.key.model)
        return False
    return len(waiters) == len(members)
