"""The hooks of an extension that the core's pages and its admin call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from notifications.extension.dimensions import Fact, PageButton

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job, Notification


class PageHooks:
    """What an extension adds to pages. Each hook is called on the thread of the request, outside of a transaction."""

    def steps_of(self, job: Job, limit: int, *, with_results: bool) -> tuple[Sequence[Any], int]:
        """Return what is listed with the waits of a job: its first steps, ``limit`` at most, and the number of all.

        They are ``jobs.step_list.StoredStep``, with names that are unique in the job. Called where the page of a job,
        the admin or ``jobs show`` lists them, without results for the owner of the job, and once in an execution of a
        job that has run before. One user: steps.
        """
        return (), 0

    def doubt_of(self, job: Job) -> str | datetime:
        """Return why the end of an active job may never come, as safe HTML, "" while it is expected.

        Or the time at which that may change while the job is queued: an open page is loaded again then.

        Called for its page, which says this in place of the promise that its owner will be notified. Queries of a
        bounded number of rows. One user: tasks of Celery, whose messages may be lost.
        """
        return ""

    def time_zone_of(self, user: Any) -> str:
        """Return the name of the time zone that a user (key) has chosen, "" for none.

        Called by pages that read a local time without the help of a script. One user: the reader of digests.
        """
        return ""

    def page_data(self) -> Mapping[str, Any]:
        """Return what the script of each page with the bell is given besides, as JSON by names of this extension.

        No query. One user: the key for push.
        """
        return {}

    def page_links(self, page: str) -> Sequence[tuple[str, str]]:
        """Return the label and address of each link of a page to other pages of the user.

        ``page``
            ``"inbox"``, or ``"notification"`` for that of one notification.
        """
        return ()

    def facts_of(self, row: Notification, reader: Any, *, in_full: bool) -> Sequence[Fact]:
        """Return what is said of a notification besides its title and body, what matters most first.

        Called for its page and its messages by other channels, each time in the language and the time zone of its user,
        the ``reader``. A bounded number of queries. One user: questions.

        ``in_full``
            For an e-mail, which has room for the steps and the output of a job.
        """
        return ()

    def row_buttons(self, row: Notification) -> Sequence[PageButton]:
        """Return buttons beside a notification in the inbox and on its page. Called for each row that is shown.

        The form that they are in has a field ``query`` in the inbox, the query string of the page to return to. No
        query to the database. One user: the button that mutes a category.
        """
        return ()

    def describe_change(self, user: Any, change: str) -> tuple[str, PageButton] | None:
        """Return the message after a form of ``row_buttons()``, and the button that undoes it.

        ``change``
            What the view of the form has given ``inbox.forms.redirect()``. None if it is of something else.
        """
        return None
