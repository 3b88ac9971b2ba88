"""The class of an extension: what the core asks of it, and when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.apps import AppConfig

from notifications.conf import Setting
from notifications.extension.dimensions import (
    Event,
    JobSection,
    OwnTask,
    RecordedTransaction,
    WaitKind,
    WorkerPart,
)
from notifications.extension.dispatch import Dispatch
from notifications.extension.duty import Duty
from notifications.extension.findings import Check
from notifications.extension.pages import PageHooks
from notifications.extension.tables import TableHooks

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from django.db.models import Model
    from django.http import HttpRequest

    from notifications.models import Job, Notification
    from notifications.upkeep import Upkeep

#: Unsaved rows of any models.
Rows = Iterable["Model"]


class Extension(TableHooks, PageHooks, AppConfig):
    """A Django app that adds to the core. Each hook does nothing unless a subclass defines it.

    If the app has a module ``urls``, its ``urlpatterns`` are added to ``notifications.urls``, and reversed in the
    namespace ``notifications``.
    """

    #: Its keys of ``NOTIFICATIONS``, read by ``conf.settings`` as those of the core.
    settings: ClassVar[Mapping[str, Setting]] = {}

    #: The channels of deliveries that it adds, by their names, identifiers of at most 30 characters: the dotted path of
    #: the class of each, a ``Channel``. It is imported when it is needed first. Names are stored. An app with channels
    #: requires ``notifications.contrib.deliveries``, which sends by them.
    channels: ClassVar[Mapping[str, str]] = {}

    #: The kinds of waits that it adds.
    wait_kinds: Sequence[WaitKind] = ()

    #: What it shows of a job: on its page, in the admin, and by ``jobs show``.
    job_sections: Sequence[JobSection] = ()

    # Whatever the project's DEFAULT_AUTO_FIELD is, the migrations of an app are the same.
    default_auto_field = "django.db.models.BigAutoField"

    # Django takes the only AppConfig of a module, or the one whose default is True; never this base class.
    default = False

    #: Subcommands of ``manage.py notifications`` by name, ``schedules``, and verbs below ``jobs``, ``jobs output``: the
    #: dotted path of each, a ``ManagementCommand`` (``management/management_command.py``). It is imported when the
    #: command is, which runs it on the main thread, outside of any transaction. One of the core is replaced by a
    #: subclass of its class only, which may know more options. Any other, and one that cannot be imported, is left out,
    #: as ``doctor`` says.
    subcommands: ClassVar[Mapping[str, str]] = {}

    #: What is true of tasks, by their dotted paths: of its own an ``OwnTask``, unless nothing is. Of a package that
    #: it adapts, whose paths may have wildcards, a dict as in ``OPTIONS["policies"]`` of a backend, which wins over it.
    tasks: ClassVar[Mapping[str, OwnTask | Mapping[str, Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A base class of several extensions says that it is none itself.
        cls.default = cls.__dict__.get("default", True)

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
            The ``worker.state.WorkerState``; None where jobs run inline, in tests: then only the verbs are called, and
            one part serves all runs of the process.
        """
        raise NotImplementedError

    def accept(self, request: HttpRequest) -> Callable[[Job, bool], Mapping[str, str]] | None:
        """Return what is called with the job of a request, None for nothing. One user: the header ``Callback-URL``.

        Called by ``accepted()`` on the thread of the request, before its transaction. ``request`` may be one of Django
        REST framework. May raise ``Problem``, which refuses the request.

        What it returns is called inside the transaction that has enqueued the job, with True, and may store rows; or
        after it with False, if an earlier, equal request has enqueued the job. It returns headers of the response.
        """
        return None

    def dispatch(self) -> Dispatch:
        """Return how engines learn of jobs. Called once, when the apps are ready. One user: the app of engines."""
        return Dispatch()

    def allow_starts(
        self, wanted: Mapping[str, int], now: datetime, *, counts: bool
    ) -> Mapping[str, tuple[int, datetime]]:
        """Return how many jobs with each of these keys may start now, and when some more may, after these.

        A task has a key by ``notifications.jobs.limit_starts()``. At most ``wanted`` jobs of a key are to start. A key
        that is left out has no limit. It waits for no row: a key whose row another transaction has locked is closed for
        a moment. After an error these jobs wait for some seconds, and no others. One user: the app of rates.

        ``counts``
            Called inside the transaction that claims the jobs, last, when all other limits allow them to start: it
            counts them, which is undone with the claim. Otherwise the jobs wait, and nothing is counted.
        """
        return {}

    def prepare(self) -> None:
        """Import and read what the other hooks need. Called before each transaction, outside of it. No query.

        The other hooks are called also after an error of this one.
        """

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

    def keep_for_later(self, outcome: Any) -> str:
        """Return what only this process knows of an outcome, for an ``on_attempts`` that is left out.

        That is called later, perhaps in another process, and finds it in ``tx.kept``. No query. One user: the last
        output.
        """
        return ""

    def on_ends(self, outcomes: Sequence[Any], tx: RecordedTransaction) -> Rows:
        """Return rows that are inserted with these outcomes of jobs that end or begin to wait.

        The fields of the jobs have their new values but for ``version``, which the UPDATE raises by one.
        """
        return ()

    def on_change(self, change: str, rows: Sequence[Any], tx: RecordedTransaction) -> Rows:
        """Return rows that are inserted with something else that happens than that a job starts or ends.

        ``change``, ``rows``
            ``"retried"``: the ids of jobs that are queued again by hand, which keep what they have stored.
            ``"restarted"``: the same, and nothing that they have done before is kept.
            ``"answered"``: notifications of a question that its first answer closes, but those that a reminder has
            replaced. ``tx.jobs`` has the job, with ``id``, ``language`` and ``task_path`` only.
            ``"lost"``: workers whose leases are over, at most 100, in the transaction that deletes them. A process
            beside this one may have deleted some of them.
        """
        return ()

    def last(self, tx: RecordedTransaction) -> None:
        """Execute the last statements of a transaction that records outcomes: others wait for what they lock."""

    def after_commit(self, kept: Any) -> None:
        """Use what the hooks have put into ``tx.kept[self.label]`` in the transaction that was committed.

        Not called if that is nothing. An error is logged.
        """

    def may_follow(self, job: UUID, user: Any) -> bool:
        """Return whether a user who does not own a job may see its title, progress and output now.

        Called where these are read, outside of a transaction. It may call code of the project, as backends of
        permissions. One user: those whom a job asks may read what it asks about.
        """
        return False

    def before_raised(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Collection[UUID]:
        """Change rows of the extension for snoozed notifications; return the ids of those that may not return.

        Called in the transaction in which the others return to the inbox: it has locked their rows, and no stream yet,
        so it may wait for a transaction that holds rows of the extension. Only ``id``, ``user_id``, ``key``,
        ``broadcast`` and ``archived_at`` are read, and ``tx.now`` is the database's time. One may stay archived for
        another extension too, or for a newer notification with its key.
        """
        return ()

    def events_of(self, subject: Job | Notification, reader: Any) -> Iterable[Event]:
        """Return what happened to a notification or a job, or is to happen. Called for a timeline that is shown.

        ``reader``
            The user (key) to whom it is shown: without ids of jobs, errors of servers, and what concerns other users.
            None: staff.
        """
        return ()

    def checks(self) -> Iterable[Check]:
        """Return what can be wrong with what it adds. Called once in each process that asks."""
        return ()
