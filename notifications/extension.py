"""What a Django app adds to the core, which never imports it.

    class Slack(Extension):                      # notifications_slack/apps.py
        name = "notifications_slack"

        def on_created(self, rows, tx):
            return [SlackMessage(notification=row.id) for row in rows]

A project installs it by one line of ``INSTALLED_APPS``. The core calls the methods below, hooks, of each installed
extension in the order of ``INSTALLED_APPS``; none may depend on that order. An extension that does not define a hook
costs no call.

Hooks of a transaction run inside it, on the thread that records, maybe several times: a transaction that fails is
repeated. They hold SQLite's only lock, or locked rows. So they call no code of the project, wait for nothing, and make
at most one query that an index answers; what needs more is done in ``prepare()``. What they return is inserted by the
core.

Hooks of reading answer for a list of rows, in one query, on the thread that reads and outside of a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils import translation

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from django.contrib.admin import ListFilter, ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest

    from notifications.models import Job, Notification, Wait
    from notifications.upkeep import Duty, Upkeep

#: Unsaved rows of any models.
Rows = Iterable["Model"]


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
    ``kept``
        What an extension keeps from one hook of the transaction for a later one, by its label. It is empty at the
        beginning of each repetition.
    """

    now: datetime | None = None
    jobs: Mapping[UUID, Job] = field(default_factory=dict)
    languages: Mapping[UUID, str] = field(default_factory=dict)
    has_run: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def language_of(self, row: Notification) -> str:
        """Return the language in which a notification goes on: that of its job, its reader's, else this thread's."""
        if job := self.jobs.get(row.id):
            return job.language
        return self.languages.get(row.id) or translation.get_language() or ""


class WorkerPart:
    """What an extension does in a worker, from the start of the worker until its end."""

    async def run(self) -> None:
        """Work for ever, on the worker's event loop, until this is cancelled. It is called again after an error."""
        await asyncio.Event().wait()

    async def before_outcome(self, job: Job) -> None:
        """Do what the end of an attempt waits for. Called on the event loop before its outcome is recorded."""

    def end(self) -> None:
        """Release what waits for this part. Called when ``run()`` is cancelled."""


class WaitKind:
    """A kind of what jobs wait for (``models.Wait``): pauses are those of the core.

    The methods run in transactions that hold the rows of the jobs locked, and no stream yet.

    ``kind``
        The value of ``Wait.kind``.
    ``ends_by_time``
        How a wait ends whose time has come, a value of ``Wait.how``.
    """

    kind = ""
    ends_by_time = "expired"

    def opened(self, waits: Sequence[Wait], jobs: Mapping[UUID, Job]) -> Sequence[Notification]:
        """Return the unsaved notifications of new waits, whose jobs are given by their ids."""
        return ()

    def ended(self, waits: Sequence[Wait]) -> set[Any]:
        """Change the notifications of waits that end here. Returns the keys of their users, whose rows are numbered."""
        return set()

    def count_notifications(self, wait: Wait) -> int:
        """Return how many rows ``ended()`` changes for a wait: few waits with many are ended in one transaction."""
        return 0

    def is_shown_to(self, wait: Wait, user: Any) -> bool:
        """Return whether a user (key) is shown that their job waits for it."""
        return True


class Pause(WaitKind):
    """A time that a job waits for."""

    kind, ends_by_time = "pause", "due"


class Extension(AppConfig):
    """A Django app that adds to the core. Each hook does nothing unless a subclass defines it."""

    #: The kinds of waits that it adds.
    wait_kinds: Sequence[WaitKind] = ()

    # Django takes the only AppConfig of a module, or the one whose default is True; never this base class.
    default = False

    #: Subcommands of ``manage.py notifications`` by name, ``schedules``, and verbs below ``jobs``, ``jobs output``: the
    #: dotted path of each, a ``ManagementCommand`` (``management/management_command.py``). It is imported when the
    #: command is, which runs it on the main thread, outside of any transaction. A verb of the core may be replaced, by
    #: a subclass of its class that knows more options.
    subcommands: ClassVar[Mapping[str, str]] = {}

    #: What ``doctor`` examines besides, by a name: the dotted path of a function that returns findings
    #: (``management/diagnosis/finding.py``). It is called with the seconds that a round trip of a job may take, on the
    #: main thread, outside of any transaction, where the settings, the database and the tables are without errors. An
    #: error of the database is one more finding.
    findings: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.default = True

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        """Return what processes that last must do every so often, besides the duties of the core.

        Called once in each such process, at its start, and by ``doctor``, which reads their names and intervals. No
        query. A duty runs on the thread on which its process does one duty after the other, outside of any
        transaction: it starts code of the project on ``process.project_threads``, and does in chunks by
        ``process.run_chunks()`` what may take long.
        """
        return ()

    def worker_part(self, state: Any) -> WorkerPart:
        """Return what this extension does in a worker. Verbs reach it as ``execution.parts[label]``.

        Called once for each worker, before it runs.

        ``state``
            The ``worker.state.WorkerState``; None where jobs run inline, in tests: then only the verbs are called.
        """
        raise NotImplementedError

    def stored_names(self, job: UUID) -> Mapping[str, str]:
        """Return what is stored for a job by names that are unique in it: the kind of each in a word, such as "step".

        Called in the execution of the job, once but for errors, outside of a transaction. One user: steps.
        """
        return {}

    def prepare(self) -> None:
        """Import and read what the other hooks need. Called before each transaction, outside of it. No query."""

    def rows_per_notification(self) -> int:
        """Return how many rows ``on_created()`` returns for one notification, at most or as a guess.

        The core inserts at most 100 rows in one transaction on SQLite, and writes fewer notifications in one by it.
        """
        return 0

    def rows_per_end(self) -> int:
        """Return the same for the end of one job, without those of its notification."""
        return 0

    def before_created(self, rows: Sequence[Notification]) -> None:
        """Change notifications that are about to be inserted, such as ``read_at`` of those in muted categories."""

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        """Return rows that are inserted with these notifications. Called with every notification."""
        return ()

    def on_attempts(self, outcomes: Sequence[Any], tx: RecordedTransaction) -> Rows:
        """Return rows that are inserted with the outcomes (``jobs/outcomes.py``) of attempts, of lost ones too.

        Called while the fields of the jobs have the values with which they ran.
        """
        return ()

    def on_ends(self, outcomes: Sequence[Any], tx: RecordedTransaction) -> Rows:
        """Return rows that are inserted with these outcomes of jobs that end or begin to wait.

        The fields of the jobs have their new values but for ``version``, which the UPDATE raises by one.
        """
        return ()

    def on_retried(self, ids: Sequence[UUID], *, from_start: bool) -> None:
        """Change rows of the extension that belong to jobs which are queued again by hand.

        ``from_start``
            Nothing that the jobs have done before is kept.
        """

    def last(self, tx: RecordedTransaction) -> None:
        """Execute the last statements of a transaction that records outcomes: others wait for what they lock."""

    def after_commit(self, kept: Any) -> None:
        """Use what the hooks have put into ``tx.kept[self.label]`` in the transaction that was committed.

        Not called if that is nothing. It must raise nothing.
        """

    def may_raise(self, rows: Sequence[Notification]) -> Sequence[Notification]:
        """Return those of these snoozed notifications that may return to the inbox at their time, in their order.

        Called by a duty with notifications that are due, before the transaction that raises them. Only ``id``,
        ``user_id``, ``key``, ``raised`` and ``broadcast`` are read. One user: a withdrawn broadcast does not return.
        """
        return rows

    def senders(self, rows: Sequence[Notification]) -> Mapping[UUID, Any]:
        """Return the keys of the users who have sent these notifications, by the ids of the notifications.

        Called where users read their notifications. None is a sender who is not known, who is shown as "the staff";
        notifications that no user has sent are left out. One user: broadcasts.
        """
        return {}

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        """Delete a chunk of the rows of deleted users, or clear the column that names them; return how many.

        Called inside the transaction that deletes a chunk of these users' rows, on the thread that purges, until it
        returns 0. It is repeated. What the core knows of the users, such as their streams, is deleted afterwards.

        ``keys``
            Those of the users, as the database stores them. See ``streams.purging.clear_users``.
        """
        return 0

    def list_filters(self, model: type[Model]) -> Sequence[type[ListFilter]]:
        """Return filters that the admin's list of a model of the core shows after its own. Called for each request."""
        return ()

    def list_links(self, model_admin: ModelAdmin[Any], request: HttpRequest) -> Sequence[tuple[str, str]]:
        """Return the label and address of each link above an admin's list that the user may follow."""
        return ()

    def origin_link(self, model_admin: ModelAdmin[Any], row: Notification) -> str:
        """Return a safe HTML link to what a notification was sent with, "" if it is not of this extension.

        Called for the admin's page of one notification.
        """
        return ""


class Hooks:
    """The hooks that installed extensions define: the bound methods of each, in their order."""

    def __init__(self, extensions: Iterable[Extension] = ()) -> None:
        self.extensions = extensions = list(extensions)

        def defined(name: str) -> list[Any]:
            default = getattr(Extension, name)
            return [getattr(each, name) for each in extensions if getattr(type(each), name) is not default]

        #: Dotted paths by name.
        self.subcommands = {name: path for each in extensions for name, path in each.subcommands.items()}
        self.findings = {name: path for each in extensions for name, path in each.findings.items()}
        self.duties: list[Callable[[Upkeep], Iterable[Duty]]] = defined("duties")
        #: By ``kind``.
        self.wait_kinds = {
            kind.kind: kind for kind in (Pause(), *(k for e in self.extensions for k in e.wait_kinds))
        }
        #: By the label of the extension.
        self.worker_part = {hook.__self__.label: hook for hook in defined("worker_part")}
        self.stored_names: list[Callable[[UUID], Mapping[str, str]]] = defined("stored_names")
        self.prepare: list[Callable[[], None]] = defined("prepare")
        self.rows_per_notification: list[Callable[[], int]] = defined("rows_per_notification")
        self.rows_per_end: list[Callable[[], int]] = defined("rows_per_end")
        self.before_created: list[Callable[..., None]] = defined("before_created")
        self.on_created: list[Callable[..., Rows]] = defined("on_created")
        self.on_attempts: list[Callable[..., Rows]] = defined("on_attempts")
        self.on_ends: list[Callable[..., Rows]] = defined("on_ends")
        self.on_retried: list[Callable[..., None]] = defined("on_retried")
        self.last: list[Callable[..., None]] = defined("last")
        self.after_commit: dict[str, Callable[[Any], None]] = {
            hook.__self__.label: hook for hook in defined("after_commit")
        }
        self.may_raise: list[Callable[..., Sequence[Notification]]] = defined("may_raise")
        self.senders: list[Callable[..., Mapping[UUID, Any]]] = defined("senders")
        self.delete_of_users: list[Callable[..., int]] = defined("delete_of_users")
        self.list_filters: list[Callable[..., Sequence[type[ListFilter]]]] = defined("list_filters")
        self.list_links: list[Callable[..., Sequence[tuple[str, str]]]] = defined("list_links")
        self.origin_link: list[Callable[..., str]] = defined("origin_link")


hooks = Hooks()


def make_worker_parts(state: Any) -> dict[str, WorkerPart]:
    """Return what extensions do in a worker, by their labels. See ``Extension.worker_part()``."""
    return {label: make(state) for label, make in hooks.worker_part.items()}


def load(features: Iterable[Extension] = ()) -> None:
    """Read the hooks of all installed extensions. Called once, when the app is ready.

    ``features``
        Those of the app's own folders that are no apps yet, which come first.
    """
    hooks.__init__([*features, *extensions()])  # type: ignore[misc]


def extensions() -> list[Extension]:
    """Return the installed extensions, in the order of ``INSTALLED_APPS``."""
    return [config for config in apps.get_app_configs() if isinstance(config, Extension)]


def list_apps() -> list[AppConfig]:
    """Return the core's configuration and the installed extensions: the apps whose tables belong together."""
    return [apps.get_app_config("notifications"), *extensions()]


def require(name: str) -> None:
    """Raise ``ImproperlyConfigured`` if this app (its dotted path) is not installed, with the line to add.

    Modules of models in ``contrib`` call it before they declare one: Django would register the model for the label
    ``notifications``, because its module is below that app.
    """
    if not apps.is_installed(name):
        raise ImproperlyConfigured(
            f'{name} is not installed. Add "{name}" to INSTALLED_APPS, and run manage.py migrate.'
        )
