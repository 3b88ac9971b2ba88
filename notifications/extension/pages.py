"""The hooks of an extension that the core's pages and its admin call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from notifications.extension.dimensions import Fact, PageButton

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job, Notification


class JobStep(NamedTuple):
    """A step of a job that an extension has stored.

    ``took``
        How long the call took, None if it has not ended, or that is not known.
    ``text``, ``size``
        Its result as JSON, None if that was not read because it is long, and how many characters it has; None if no
        result was read. Pages show it without the secrets of the policy's ``redact``.
    ``state``
        ``"returned"``, ``"running"``, ``"failed"`` if the call has raised, or ``"lost"`` if its end is not known.
    """

    name: str
    attempt: int
    started_at: datetime
    took: timedelta | None
    text: str | None = None
    size: int | None = None
    state: str = "returned"


def read_zones(value: Any) -> dict[Any, ZoneInfo]:
    """Return what ``time_zones_of()`` has returned. Raises TypeError for another type, or a zone without a name."""
    zones = dict(value)
    if wrong := [zone for zone in zones.values() if not getattr(zone, "key", "")]:
        raise TypeError(
            f'time_zones_of() returned {wrong[0]!r}. Return a ZoneInfo with a name, as ZoneInfo("UTC"), by the keys of '
            "users."
        )
    return zones


def read_steps(value: Any) -> tuple[list[JobStep], int]:
    """Return what ``steps_of()`` has returned. Raises TypeError or ValueError for another form."""
    steps, count = value
    return [JobStep(**step) for step in steps], int(count)


class PageHooks:
    """What an extension adds to pages. Each hook is called on the thread of the request, outside of a transaction."""

    def steps_of(
        self, job: Job, limit: int, *, with_results: bool, with_unfinished: bool
    ) -> tuple[Sequence[Mapping[str, Any]], int]:
        """Return what is listed with the waits of a job: its first steps, ``limit`` at most, and the number of all.

        Each is a dict of the fields of ``JobStep``, with names that are unique among those that have returned. Called
        where the page of a job, the admin or ``jobs show`` lists them, without results for the owner of the job, and
        once in an execution of a job that has run before, only with those that have returned. One user: steps.
        """
        return (), 0

    def time_zones_of(self, users: Sequence[Any]) -> Mapping[Any, ZoneInfo]:
        """Return the time zones that users (keys, 1,000 at most) have chosen, in one query. Others are left out.

        Called by pages that read a local time without the help of a script, and for schedules in the time zone of their
        owner. A project that stores time zones of its own users says them by it.
        """
        return {}

    def page_data(self) -> Mapping[str, Any]:
        """Return what the script of each page with the bell is given besides, as JSON by names of this extension.

        No query. One user: the key for push.
        """
        return {}

    def page_links(self, page: str) -> Sequence[tuple[str, str]]:
        """Return the label and address of each link of a page to other pages of the user.

        ``page``
            ``"inbox"``, ``"notification"`` for that of one notification, or ``"preferences"`` for that on which users
            choose by which channels they are notified.
        """
        return ()

    def parts_of(
        self, rows: Sequence[Notification], reader: Any, place: str
    ) -> Mapping[UUID, Sequence[Fact | PageButton | str]]:
        """Return what is shown with notifications of a user, by their ids, what matters most first.

        A ``Fact`` is said besides the title and the body, a ``PageButton`` stands beside the notification, and a text
        says why the user was notified. A bounded number of queries. Called in the language and the time zone of the
        user, the ``reader``.

        ``place``
            ``"list"``: rows of the inbox, which show texts and buttons. ``"page"``: the page of one. ``"push"``,
            ``"email"``: a message about one, which shows facts; an e-mail has room for steps and the output of a job.
        """
        return {}
