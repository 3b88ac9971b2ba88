"""Follow something over HTTP that grows, such as the output of a job."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from notifications.http.stream_views import event_response, long_poll, read_follower, set_event_headers
from notifications.problems import Problem
from notifications.realtime.transports.feeds import FeedEvents, FeedPoll


class Feed:
    r"""A request of a user for something that grows, in bytes, which they may go on to follow.

    A subclass says how it is read, and the view answers with what there is, with what ``wait()`` returns, or with
    ``stream()``::

        class Log(Feed):
            def read(self, positions):
                return {position: read_log(self.user, self.key, position) for position in positions}

            def event(self, part):
                return b"id: %d\ndata: %s\n\n" % (part.end, part.data)

        def open_log(request, name):
            log = Log(request, name, "text/event-stream")
            return log, log.read([0])[0]

        @api_view()
        async def follow_log(request, name):
            log, part = await sync_to_async(open_log)(request, name)
            return log.stream(part)

    ``key``
        What is read, once for all requests of one user in this process that are at the same position: with the class
        and the user it stands for one feed.
    ``max_clients``
        How many such requests of one user may wait in this process, besides those for something else.

    A part has ``data``; ``end``, the position after it; ``is_last``, whether nothing follows now; and ``is_closed``,
    whether nothing follows any more.
    """

    max_clients = 20

    def __init__(self, request: HttpRequest, key: Hashable, media_type: str) -> None:
        """Check a GET whose response is of ``media_type``, in a thread that may use the database.

        Raises Problem as views of the API do: 401, 405 or 406.
        """
        self.follower = read_follower(request, media_type)
        self.user = self.follower.user
        self.key: Any = key
        #: Where the client is: the end of what it has.
        self.position: Any = None
        self._request = request
        self._slots = (type(self), self.user)

    def read(self, positions: Iterable[Any]) -> Mapping[Any, Any]:
        """Return the part at each of these positions, maybe empty, on a thread that may use the database.

        Called when a ring names the user, and every few seconds. ``ObjectDoesNotExist`` ends the requests, and after
        any other error it is called again.
        """
        raise NotImplementedError

    def event(self, part: Any) -> bytes:
        """Return the Server-Sent Event of a part, on the event loop. It may have no data: the first one, and the last.

        After an error the response ends, and the client comes back.
        """
        raise NotImplementedError

    def check_can_wait(self) -> None:
        """Raise Problem 501 under WSGI, where each request that waits would hold a thread."""
        if not isinstance(self._request, ASGIRequest):
            raise Problem(501, "This is a WSGI server, which cannot wait. Read again and again.")

    async def wait(self, position: Any, seconds: float) -> Any:
        """Return the next part after a position that has data, or the last one; after ``seconds`` an empty one.

        None if it could not be read until then. Raises ``ObjectDoesNotExist``, and Problem: 429, 401 when the user is
        signed out meanwhile, 501 under WSGI, 503 when the server stops.
        """
        self.check_can_wait()
        self.position = position
        poll = await long_poll(
            lambda hub: FeedPoll(hub, self), seconds, slots=self._slots, max_slots=self.max_clients
        )
        if poll.result is None and poll.finished.done():
            raise ObjectDoesNotExist
        return poll.result

    def stream(self, part: Any) -> Any:
        """Return a response of Server-Sent Events, from a part on that was read for the client.

        It ends after 256 KiB or a minute, and the client comes back by itself. Raises Problem: 429, 501 under WSGI.
        """
        self.check_can_wait()
        if self._request.method == "HEAD":
            return set_event_headers(HttpResponse())
        return event_response(
            self._request,
            lambda hub: FeedEvents(hub, self).stream_from(part),
            slots=self._slots,
            max_slots=self.max_clients,
        )
