"""What an error of sending says that its channel has no word about, and errors of the channel's own code."""

from __future__ import annotations

import logging
import socket

from notifications.db import catching
from notifications.extension import Channel, ChannelMessage, Verdict

logger = logging.getLogger("notifications")

#: Statuses of HTTP that may pass, besides 5xx.
PASSING_STATUS_CODES = {408, 425, 429}


def record_by_channel(channel: Channel, message: ChannelMessage, error: Exception | None) -> None:
    """Have a channel store what it keeps of an attempt. Raises that the database is away."""
    with catching() as caught:
        channel.record(message, error)
    if caught.error:
        # What became of the delivery is stored all the same: one that was sent would be sent again.
        text = "record() of the channel %s has failed: delivery %s"
        logger.error(text, channel.name, message.id, exc_info=caught.error)


def is_of_making(error: BaseException) -> bool:
    """Return whether an error says that no server was asked: a message could not be made, or a circuit is open."""
    from notifications import outbound  # with aiohttp, in processes that send only

    return type(error) in (ConnectionError, ValueError) or isinstance(error, outbound.CircuitOpen)


def is_timeout(error: Exception) -> bool:
    """Return whether a server has not answered in time: ``smtplib`` reports that as a lost connection."""
    from notifications import outbound  # with aiohttp, in processes that send only

    cause: BaseException | None = None if is_of_making(error) else error
    while cause is not None:
        if isinstance(cause, TimeoutError | outbound.TimedOut):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def judge(channel: Channel, error: Exception) -> Verdict:
    """Return what an error of sending by a channel says, with its text."""
    verdict = channel.judge(error) or _judge(error)
    return verdict._replace(text=str(verdict.text) or _describe(error))


def _judge(error: Exception) -> Verdict:
    from notifications import outbound  # with aiohttp, in processes that send only

    # Exceptions of clients of HTTP APIs have the attribute status_code.
    status = getattr(error, "status" if isinstance(error, outbound.BadStatus) else "status_code", None)
    if isinstance(status, int):
        return Verdict(not 400 <= status < 500 or status in PASSING_STATUS_CODES, is_certain=True)
    if isinstance(error, outbound.OutboundError):
        is_refused = isinstance(error, outbound.Refused)
        return Verdict(not is_refused, is_certain=is_refused or isinstance(error, outbound.CircuitOpen))
    if isinstance(error, ValueError | TypeError):
        return Verdict(may_pass=False, is_certain=True)
    # Most breaks of a connection do not say that nothing has arrived. A plain ConnectionError is one of this app.
    has_sent_nothing = isinstance(error, ConnectionRefusedError | socket.gaierror)
    return Verdict(is_certain=has_sent_nothing or type(error) is ConnectionError)


def _describe(error: Exception) -> str:
    """Return an error as one line: why there was no answer."""
    if isinstance(error, socket.gaierror):
        return "The name of the server was not found."
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    if isinstance(error, TimeoutError):
        return "There was no answer in time."
    return " ".join(str(error).split()) or type(error).__name__
