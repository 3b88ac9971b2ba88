"""The filters beside the list of jobs. The choices of each come from the newest rows, never from a whole table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin import FormFilter, KeysetFilter, StateFilter, UserFilter
from notifications.contrib.operations.admin.filters import (
    NOTIFICATION_FILTERS,
    CreatedFilter,
    FinishedFilter,
    JobListFilter,
    other_parameters,
    read_filter,
)
from notifications.db import database
from notifications.extension import hooks
from notifications.jobs import aliases_with_engines
from notifications.jobs.arguments import find_jobs
from notifications.models import Attempt, Job, Notification, Worker, parse_id

#: The newest rows that choices come from, and the choices that are shown at most.
MAX_ROWS_READ, MAX_CHOICES = 300, 15
#: The id of no job and no worker.
NOBODY = "00000000-0000-0000-0000-000000000000"
#: Attributes of a request that hold what two filters need.
_NEWEST = "_notifications_newest_jobs"


class JobStateFilter(StateFilter, JobListFilter):
    """Filters jobs by their state. It is always shown, and narrows the list by all conditions."""

    def condition(self) -> dict[str, Any]:
        return {"state": self.value() or ""}

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None:
            return rows, None
        is_exact = changelist.model_admin.shows_all_jobs() and not other_parameters(changelist)
        return read_filter(changelist).narrow(rows, is_exact=is_exact)


class TextFilter(JobListFilter):
    """A filter with a field for text, which is always shown."""

    template = "admin/notifications/text_filter.html"

    def has_output(self) -> bool:
        return True


class TaskFilter(TextFilter):
    title = _("task")
    parameter_name = "task_path"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(task for task, _ in _newest_jobs(request)))


class QueueFilter(TextFilter):
    title = _("queue")
    parameter_name = "queue_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(queue for _, queue in _newest_jobs(request)))


class JobUserFilter(JobListFilter, UserFilter):
    def condition(self) -> dict[str, Any]:
        if not self.value():
            return {}
        # The key of no user, of any type.
        return {"user": str(key)} if (key := self.user_key()) is not None else {"search": NOBODY}


class JobRunnerFilter(JobListFilter):
    """Filters jobs by the engine that runs them."""

    title = _("engine")
    parameter_name = "runs_on"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        if not (aliases := aliases_with_engines()) and not hooks.runners:
            return []
        labels = [hooks.dispatch.label_of(alias) for alias in aliases]
        engines = [
            (f"engine:{alias}", label if labels.count(label) == 1 else f"{label} ({alias})")
            for alias, label in zip(aliases, labels, strict=True)
        ]
        return [("builtin", _("Built-in worker")), *engines, *hooks.runners.items()]

    def condition(self) -> dict[str, Any]:
        return {"runner": self.value() or ""}


class ErrorGroupFilter(JobListFilter):
    """Filters failed jobs by their task and the exception of their last attempt."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        columns = ("job_id", "exception_class_path", "outcome", "job__state", "job__task_path")
        newest = Attempt.objects.using(database()).order_by("-id").values_list(*columns)[:MAX_ROWS_READ]
        kinds: dict[Any, tuple[str, str]] = {}
        for job, exception, outcome, state, task in newest:
            if state == Job.State.FAILED:
                kinds.setdefault(job, (task, exception or outcome))
        groups = Counter(kinds.values())
        return self.with_value(
            [
                (f"{task} {kind}", f"{_last_name(task)}: {_last_name(kind)}")
                for (task, kind), count in groups.most_common(MAX_CHOICES)
            ]
        )


class FailureFilter(JobListFilter):
    """Filters failed jobs by exception and location, as the overview groups them. It is shown when it is chosen."""

    title = _("failure")
    parameter_name = "failure"


class BatchFilter(JobListFilter):
    """Filters the jobs of a batch. It is shown when it is chosen, on the page of the batch."""

    title = _("batch")
    parameter_name = "batch"

    def condition(self) -> dict[str, Any]:
        if not (value := self.value()):
            return {}
        if (id := parse_id(value)) is None:
            raise ValueError(f"{value!r} is no id of a batch.")
        return {"batch": str(id)}


class WorkerFilter(TextFilter):
    """Filters jobs by the worker of their last attempt: its id, or the host of workers that are alive."""

    title = _("worker")
    parameter_name = "worker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        hosts = Worker.objects.using(database()).order_by("-id").values_list("host", flat=True)
        return self.with_value(_most_frequent(hosts[:MAX_ROWS_READ]))

    def condition(self) -> dict[str, Any]:
        if not (value := self.value()):
            return {}
        if id := parse_id(value):
            return {"worker": str(id)}
        ids = Worker.objects.using(database()).filter(host=value).order_by("-id").values_list("pk", flat=True)
        return {"worker": ",".join(map(str, ids[:MAX_ROWS_READ])) or NOBODY}


class ArgumentsFilter(FormFilter):
    """Filters jobs by words of their arguments, for staff who may view them.

    It is no condition of ``JobFilter``: a query finds words of secrets too, and the number of jobs that a change of all
    would apply to, or whether it applies to one, would reveal them.
    """

    title = _("text of the arguments")
    parameter_name = "arguments"
    template = "admin/notifications/text_filter.html"
    max_length = 200

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if (length := len(self.value() or "")) > self.max_length:
            text = _("The text to find in arguments has %(count)d characters. At most %(limit)d are allowed.")
            messages.error(request, text % {"count": length, "limit": self.max_length})
            raise IncorrectLookupParameters(text)
        return queryset

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None and (words := self._words()):
            # A few jobs, which are counted too.
            rows = rows.filter(pk__in=find_jobs(rows.values_list("pk", flat=True), words))
        return rows, slices_of

    def row_check(self) -> Any:
        return partial(find_jobs, words=words) if (words := self._words()) else None

    def _words(self) -> list[str]:
        return (self.value() or "").split()


def _newest_jobs(request: HttpRequest) -> list[tuple[str, str]]:
    """Return task and queue of the newest jobs, which are read once for a page."""
    if not hasattr(request, _NEWEST):
        jobs = Job.objects.using(database()).order_by("-created_at", "-id")
        setattr(request, _NEWEST, list(jobs.values_list("task_path", "queue_name")[:MAX_ROWS_READ]))
    return getattr(request, _NEWEST)  # type: ignore[no-any-return]


def _most_frequent(values: Iterable[str]) -> list[tuple[str, Any]]:
    return [(value, value) for value, count in sorted(Counter(values).most_common(MAX_CHOICES))]


def _last_name(path: str) -> str:
    return path.rpartition(".")[2]


#: The filters, in their order, and what is needed to view those that show more than the permission to view jobs allows.
FILTERS: dict[type[KeysetFilter], str] = {
    JobStateFilter: "",
    CreatedFilter: "",
    FinishedFilter: "",
    ErrorGroupFilter: "notifications.view_attempt",
    TaskFilter: "",
    QueueFilter: "",
    JobUserFilter: "",
    WorkerFilter: "",
    FailureFilter: "notifications.view_attempt",
    BatchFilter: "",
    JobRunnerFilter: "",
    ArgumentsFilter: "notifications.view_job_arguments",
}


def list_filters(model_admin: Any, request: HttpRequest) -> Sequence[Any]:
    """Return the filters of a list that the user may view. See ``Extension.list_filters()``."""
    if model_admin.opts.concrete_model is Job:
        return [spec for spec, needed in FILTERS.items() if not needed or request.user.has_perm(needed)]
    return NOTIFICATION_FILTERS if model_admin.opts.concrete_model is Notification else ()
