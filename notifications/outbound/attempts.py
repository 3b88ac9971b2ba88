"""A whole call: exchanges, one after the other, until there is an answer that leads nowhere else."""

from __future__ import annotations

import asyncio

from . import events, redirects, retries
from .call import Call
from .errors import BadResponse, OutboundError
from .exchange import Exchange, exchange
from .guard import Forbidden
from .redirects import Ask


async def answered(call: Call, ask: Ask, *, whole: bool) -> Exchange:
    """Return the exchange that has the answer: read and ended if ``whole``, else with its body still to come."""
    while True:
        run = await _tried(call, ask, whole=whole)
        if not run.leads_on:
            return run
        run.end()
        call.history.append(run.response())
        if len(call.history) > redirects.LIMIT:
            raise BadResponse(f"{call.subject} redirects more than {redirects.LIMIT} times.")
        try:
            ask = redirects.follow(ask, run.answer.status, run.answer.headers["Location"])
        except Forbidden as exc:
            raise call.refused(exc) from exc


async def _tried(call: Call, ask: Ask, *, whole: bool) -> Exchange:
    """One request, sent again while that may help: all attempts and redirects of a call share its retries."""
    while True:
        try:
            run = await exchange(call, ask, whole=whole)
        except OutboundError as exc:
            pause = _pause(call, ask, None) if exc.may_pass else None
            if pause is None:
                raise
            events.retrying(call, 0, exc, pause)
        else:
            if run.answer.status not in retries.STATUSES:
                return run
            pause = _pause(call, ask, retries.retry_after(run.answer.headers))
            if pause is None:
                return run
            run.end()
            events.retrying(call, run.answer.status, None, pause)
        call.stage = "pause"
        await asyncio.sleep(pause)
        call.attempts += 1


def _pause(call: Call, ask: Ask, asked: float | None) -> float | None:
    if call.attempts > call.retries or not retries.may_be_repeated(ask):
        return None
    return retries.pause(call.attempts, asked, call.left)
