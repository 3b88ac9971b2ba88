"""What extensions add: kinds of waits, tasks, parts of a worker, sections, buttons, events; what hooks are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.utils import translation
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from django.http import HttpRequest

    from notifications.models import Job, Notification, Wait


class WaitKind:
    """A kind of what jobs wait for (``models.Wait``): pauses are those of the core.

    ``opened()`` and ``ended()`` run in transactions that hold the rows of the jobs locked, and no stream yet. Here the
    owner of the job is notified, with a button until the wait ends::

        class Signature(WaitKind):
            kind, label = "signature", "Signature"

            def opened(self, waits, jobs):
                from notifications.streams import build_notification
                rows = []
                for wait in waits:
                    if owner := jobs[wait.job].user_id:
                        actions = [{"label": "Sign", "url": f"/contracts/{wait.job}/"}]
                        title = wait.title or wait.name
                        rows.append(build_notification(owner, title, actions=actions, wait=wait))
                return rows

    ``kind``
        The value of ``Wait.kind``, at most 50 characters.
    ``label``
        The kind as people read it.
    ``ends_by_time``
        How a wait ends whose time has come, a value of ``Wait.how``.
    """

    kind = ""
    label: Any = ""
    ends_by_time = "expired"

    def opened(self, waits: Sequence[Wait], jobs: Mapping[UUID, Job]) -> Sequence[Notification]:
        """Return the notifications of new waits, by ``build_notification()``. ``jobs`` are by their ids.

        That with ``wait=`` is closed when the wait ends, in any way: it is read, and has no actions any more.
        """
        return ()

    def ended(self, waits: Sequence[Wait]) -> set[Any]:
        """Change notifications of waits that end here, and set their ``seq`` to None: then they are sent again.

        Those with ``wait=`` are closed without it. Returns the keys of their users.
        """
        return set()

    def notification_ids(self, wait: Wait) -> Sequence[UUID]:
        """Return the ids of the rows that ``ended()`` changes for a wait, which are locked before it is called.

        Of waits with many of them few are ended in one transaction.
        """
        return ()

    def is_shown_to(self, wait: Wait, user: Any) -> bool:
        """Return whether a user (key) is shown that their job waits for it."""
        return True

    def describe_ends(self, waits: Sequence[Wait], reader: Any) -> Mapping[UUID, str]:
        """Return who has ended waits, such as "You answered", by their ids, in at most one query.

        Called outside of a transaction. Those that nobody has ended are left out.

        ``reader``
            The user (key) who reads it, None for the output of a command.
        """
        return {}

    def page(self, job: UUID, id: UUID) -> str:
        """Return the path of the page of a wait of a job, "" if the wait has none of its own. Called at any time."""
        return ""

    def answer_path(self, job: UUID, id: UUID) -> str | None:
        """Return the path of the API by which a user ends a wait, None if no user does. Called at any time."""
        return None

    def remind(self) -> None:
        """Remind of open waits whose ``remind_at`` has come, outside of any transaction.

        Called where jobs run inline, in tests. In processes that last a duty of the extension does it.
        """


#: That of waits whose extension is not installed any more.
UNKNOWN_KIND = WaitKind()


class Pause(WaitKind):
    """A time that a job waits for."""

    kind, label, ends_by_time = "pause", _("Pause"), "due"


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTask:
    """What is true of the jobs of a task of an extension, which it declares with ``own_task()``.

    ``is_silent``
        They raise no events: a handler that notifies of each e-mail would cause the next one.
    ``is_harmless``
        They call no code of the project, so none of them has ended the process that was lost while it ran them.
    ``fails_with_receivers``
        They fail when servers of single users do: alerts of failed jobs leave them out.
    """

    is_silent: bool = False
    is_harmless: bool = False
    fails_with_receivers: bool = False


class WorkerPart:
    """What an extension does in a worker, from the start of the worker until its end."""

    async def run(self) -> None:
        """Work for ever, on the worker's event loop, until this is cancelled. It is called again after an error."""
        await asyncio.Event().wait()

    async def before_outcome(self, job: Job) -> None:
        """Do what the end of an attempt waits for. Called on the event loop before its outcome is recorded.

        After an error, which is logged, the outcome is recorded without it.
        """

    def end(self) -> None:
        """Release what waits for this part. Called when ``run()`` is cancelled."""


class JobSection:
    """A part of what is shown of one job: on its page, on its page in the admin, and by ``jobs show``.

    The methods are called where the job is read, outside of a transaction, with a job that the reader may see.

    ``name``
        The key in ``--json``. ``question``, ``steps`` and ``output`` have a block of their own on the page of a job,
        ``notifications_`` and the name; all others are in the block ``notifications_sections``.
    ``page_template``, ``admin_template``
        What is included there, with the context of the page and of the section; "" shows nothing.
    ``is_in_pane``
        Whether the page of a notification of the job, and the reading pane of the inbox, show it too.
    ``excerpt_template``
        What users are shown who may follow the job, but do not own it: see ``Extension.may_follow()``.
    """

    name = ""
    page_template = ""
    is_in_pane = True
    excerpt_template = ""
    admin_template = ""

    def page_context(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        """Return the context of the section on the job's page, for its owner, also without ``page_template``.

        Of the page itself it may change ``reload_after``, seconds after which an open page is loaded again, because
        the section may change then.
        """
        return {}

    def excerpt_context(self, job: Job) -> dict[str, Any]:
        """Return the context of ``excerpt_template``."""
        return {}

    def message_fact(self, job: Job) -> Fact | None:
        """Return what an e-mail says in place of ``excerpt_template``, of bounded length; None for nothing."""
        return None

    def admin_context(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        """Return the context of the section in the admin; ``request.user`` may view jobs."""
        return {}

    def lines(self, job: Job) -> Iterable[str]:
        """Return the lines of ``jobs show``, in English. The first one is "" if there are any."""
        return ()

    def item(self, job: Job) -> Any:
        """Return what ``jobs show --json`` has under the name, None for nothing."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """A thing that can be wrong, with its present state. ``jobs/announcing.py`` notifies of it.

    ``key``
        ``"schedule:nightly"`` for example, which is the key of the notifications too.
    ``state``
        "" if nothing is wrong.
    ``read_readers``
        Returns the keys of the users to be notified. Calls code of the project.
    ``describe``
        Takes the state that a reader was last notified of. Returns the arguments of ``notify()``, in the active
        language.
    """

    key: str
    state: str
    read_readers: Callable[[], list[Any]]
    describe: Callable[[str], dict[str, Any]]


class PageButton(NamedTuple):
    """A button of a form on a page of the core, which posts ``name=value`` to ``url``.

    ``icon``
        The name of one of ``streams/icons.py``.
    """

    label: str
    icon: str
    url: str
    name: str
    value: str


class Fact(NamedTuple):
    """Something that is said of a notification besides its title and body. See ``Extension.parts_of()``.

    ``url``
        The path of the page that ``text`` is the name of, "" for none.
    ``at``
        The time that ``text`` is: pages show it in the time zone of the browser.
    ``is_verbatim``
        Its lines are shown as they are, as those of output.
    """

    label: str
    text: str
    url: str = ""
    at: datetime | None = None
    is_verbatim: bool = False


class Event(NamedTuple):
    """Something that happened to a notification or a job, or is to happen.

    ``at``, ``until``
        When it happened, None if that is not known, and when it ended, if it lasted: only timelines of jobs show that.
    ``marks_read``
        It has marked the notification as read: its user may not have seen it.
    ``by``, ``own_text``
        The user (key) who has done it, and the text that they read: "You answered".
    """

    at: datetime | None
    text: str
    marks_read: bool = False
    by: Any = None
    own_text: str = ""
    until: datetime | None = None


@dataclass(kw_only=True, slots=True)
class RecordedTransaction:
    """What hooks know of the transaction that they run in.

    ``now``
        The database's time; None where notifications are created that no job makes.
    ``jobs``
        The job that makes a notification, by the id of the notification.
    ``languages``
        The language of its reader, by the id of the notification, where it is known.
    ``has_run``
        Whether jobs that end here were running.
    ``is_late``
        Whether it stands for an earlier one, which has left the hook out: what the rows had in memory is gone.
    ``kept``
        What an extension keeps from one hook of the transaction for a later one, by its label. It is empty at the
        beginning of each repetition, but for what ``Extension.keep_for_later()`` has returned.
    """

    now: datetime | None = None
    jobs: Mapping[UUID, Job] = field(default_factory=dict)
    languages: Mapping[UUID, str] = field(default_factory=dict)
    has_run: bool = False
    is_late: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def language_of(self, row: Notification) -> str:
        """Return the language in which a notification goes on: that of its job, its reader's, else this thread's."""
        if job := self.jobs.get(row.id):
            return job.language
        return self.languages.get(row.id) or translation.get_language() or ""
