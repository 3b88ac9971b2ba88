"""Filters beside lists of the admin. Apps add others: see ``mixins.add_filters()``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.live_jobs import count_states, has_state_counts, shows_deliveries, tag_alone
from notifications.db.keyset import MAX_IDS_READ
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.ids import parse_id
from notifications.jobs import tags
from notifications.jobs.declaring.tasks import aliases_with_engines
from notifications.jobs.selection import HIDDEN, JobFilter
from notifications.models import Job, Notification, Worker

#: The newest rows that choices come from, so that no table is read for them, and the choices that are shown at most.
MAX_ROWS_READ, MAX_CHOICES = 300, 15
#: The id of no job and no worker.
NOBODY = "00000000-0000-0000-0000-000000000000"
#: The attribute of a request that holds what two filters need.
_NEWEST = "_notifications_newest_jobs"


class ListFilter(admin.SimpleListFilter):
    """A filter beside a list of this app. It may have a form, and say which rows are read to find those it selects.

    A form is in its ``template``. Without choices of its own it is shown when a link has chosen a value, and has it.
    """

    #: Whether it selects rows until a value is chosen.
    is_on_by_default = False
    #: Whether it is a condition of ``JobFilter``. All jobs of a list can be changed if each filter that is used is one.
    #: One that is none, or beside a list of other rows, has a ``queryset()`` of its own.
    is_condition = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def with_value(self, choices: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return the choices, with the chosen value if it is none of them."""
        value = self.value()
        return choices if not value or value in dict(choices) else [*choices, (value, value)]

    def choices(self, changelist: Any) -> Any:
        #: What the filter's form sends besides its own fields, so that the other filters stay.
        self.other_parameters = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.expected_parameters()
            for value in values
        ]
        return super().choices(changelist)

    def condition(self) -> dict[str, Any]:
        """Return arguments of ``JobFilter``, by default that of the name of its parameter.

        Raises ValueError for a value that none can have.
        """
        return {str(self.parameter_name): self.value() or ""}

    def own_parameters(self) -> set[str]:
        """Return the parameters of the page's address that this filter has taken.

        A filter before it in the list may have taken one of the same name, so that this one has no value.
        """
        return set(self.used_parameters)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            return JobFilter(**self.condition()).apply(queryset)
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        """Return the rows of the list as an index yields them, and the slices to read; None if none are needed.

        Called for each filter of the list, in their order, with what the one before has returned. ``rows`` meet all
        filters and the search already: see ``read_page``.
        """
        return rows, slices_of

    def row_check(self) -> Callable[[list[Any]], Collection[Any]] | None:
        """Return what decides which of some rows (keys) are listed, None if a query does."""
        return None


class UserFilter(ListFilter):
    """Filters rows by the name of their user. Those of a user with few are looked up by their ids."""

    title, parameter_name = _("user"), "user"
    template = "admin/notifications/text_filter.html"
    is_condition = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        self.user_field = model_admin.user_field
        return super().lookups(request, model_admin)

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        key = find_user(self.value())
        return queryset.none() if key is None else queryset.filter(**{f"{self.user_field}_id": key})

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value():
            return rows, slices_of
        of_user = self.queryset(request, changelist.model._default_manager.using(database()))
        ids = list(of_user.order_by(f"{self.user_field}_id").values_list("pk", flat=True)[: MAX_IDS_READ + 1])
        return (rows, slices_of) if len(ids) > MAX_IDS_READ else (rows.filter(pk__in=ids), None)


def find_user(name: str | None) -> Any:
    """Return the key of the user with this name, None if there is none."""
    users = get_user_model()._base_manager.filter(**{get_user_model().USERNAME_FIELD: name or ""})
    return users.values_list("pk", flat=True).first()


def read_filter(changelist: Any) -> JobFilter:
    """Return the conditions of all filters of a list of jobs and of its search. Raises ValueError."""
    conditions = {"search": changelist.query}
    for spec in _find_conditions(changelist):
        conditions |= spec.condition()
    return JobFilter(**conditions)


def other_parameters(changelist: Any) -> list[str]:
    """Return the names of parameters of a list of jobs that are no conditions of ``JobFilter``."""
    known = {name for spec in _find_conditions(changelist) for name in spec.own_parameters()}
    return sorted(set(changelist.get_filters_params()) - known)


def _find_conditions(changelist: Any) -> list[ListFilter]:
    return [spec for spec in changelist.filter_specs if isinstance(spec, ListFilter) and spec.is_condition]


class StateFilter(ListFilter):
    """Filters jobs by their state, and narrows the list by all conditions, because it is always there.

    Its choices have the numbers of jobs, as far as these are counted.
    """

    title, parameter_name = _("state"), "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Job.State.choices

    def choices(self, changelist: Any) -> Any:
        labels = {}
        if has_state_counts(changelist):
            labels = count_states(with_deliveries=shows_deliveries(changelist))
        elif tag := tag_alone(changelist):
            counts = tags.count_states(tag)
            labels = {state: f"{Job.State(state).label} ({count:,})" for state, count in counts.items()}
        for state, choice in zip([None, *Job.State.values], super().choices(changelist), strict=True):
            yield choice | ({"display": labels[state]} if state in labels else {})

    def condition(self) -> dict[str, Any]:
        if (value := self.value()) and value not in Job.State.values:
            raise ValueError(f"{value!r} is no state.")
        return {"state": value or ""}

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None:
            return rows, None
        is_exact = changelist.model_admin.shows_all_jobs() and not other_parameters(changelist)
        return read_filter(changelist).narrow(rows, is_exact=is_exact)


class TextFilter(ListFilter):
    """A filter with a field for text, which is always shown."""

    template = "admin/notifications/text_filter.html"

    def has_output(self) -> bool:
        return True


class TaskFilter(TextFilter):
    title, parameter_name = _("task"), "task_path"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(task for task, _ in _newest_jobs(request)))


class QueueFilter(TextFilter):
    title, parameter_name = _("queue"), "queue_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(queue for _, queue in _newest_jobs(request)))


class JobUserFilter(TextFilter):
    title, parameter_name = _("user"), "user"

    def condition(self) -> dict[str, Any]:
        if not self.value():
            return {}
        # The key of no user, of any type.
        return {"user": str(key)} if (key := find_user(self.value())) is not None else {"search": NOBODY}


class WorkerFilter(TextFilter):
    """Filters jobs by the worker of their last attempt: its id, or the host of workers that are alive."""

    title, parameter_name = _("worker"), "worker"

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


class BatchFilter(ListFilter):
    """Filters the jobs of a batch. It is shown when it is chosen, on the page of the batch."""

    title, parameter_name = _("batch"), "batch"

    def condition(self) -> dict[str, Any]:
        if not (value := self.value()):
            return {}
        if (id := parse_id(value)) is None:
            raise ValueError(f"{value!r} is no id of a batch.")
        return {"batch": str(id)}


class TagFilter(ListFilter):
    """Filters the jobs with a tag. It is shown when it is chosen, on the page of such a job."""

    title, parameter_name = _("tag"), "tag"


class RunnerFilter(ListFilter):
    """Filters jobs by what runs them, where that is not the built-in worker alone."""

    title, parameter_name = _("engine"), "runs_on"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        if not (aliases := aliases_with_engines()):
            return []
        labels = [hooks.dispatch.label_of(alias) for alias in aliases]
        engines = [
            (f"engine:{alias}", label if labels.count(label) == 1 else f"{label} ({alias})")
            for alias, label in zip(aliases, labels, strict=True)
        ]
        return [("builtin", _("Built-in worker")), *engines]

    def condition(self) -> dict[str, Any]:
        return {"runner": self.value() or ""}


class DeliveriesFilter(ListFilter):
    """Leaves out the jobs with which the app sends e-mails, push messages and webhooks, unless they are asked for."""

    title, parameter_name = _("deliveries"), "deliveries"
    is_on_by_default = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("shown", _("Shown"))] if hooks.own_tasks else []

    def choices(self, changelist: Any) -> Any:
        hidden, *others = super().choices(changelist)
        return [hidden | {"display": _("Hidden")}, *others]

    def condition(self) -> dict[str, Any]:
        return {} if self.value() else {"deliveries": HIDDEN}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        asked_for = {name: request.GET.get(name, "") for name in ("task_path", "queue_name")}
        with_others = JobFilter(**self.condition(), **asked_for, search=request.GET.get(SEARCH_VAR, ""))
        return super().queryset(request, queryset) if with_others.hides_deliveries else queryset


#: Those of the list of jobs.
JOB_FILTERS = (
    *(
        StateFilter,
        TaskFilter,
        QueueFilter,
        JobUserFilter,
        WorkerFilter,
        BatchFilter,
        TagFilter,
        RunnerFilter,
    ),
    DeliveriesFilter,
)


def _newest_jobs(request: HttpRequest) -> list[tuple[str, str]]:
    """Return task and queue of the newest jobs, which are read once for a page."""
    if not hasattr(request, _NEWEST):
        jobs = Job.objects.using(database()).order_by("-created_at", "-id")
        setattr(request, _NEWEST, list(jobs.values_list("task_path", "queue_name")[:MAX_ROWS_READ]))
    return getattr(request, _NEWEST)  # type: ignore[no-any-return]


def _most_frequent(values: Iterable[str]) -> list[tuple[str, Any]]:
    return [(value, value) for value, count in sorted(Counter(values).most_common(MAX_CHOICES))]


class LevelFilter(admin.SimpleListFilter):
    """Filters notifications by their level."""

    title, parameter_name = _("level"), "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Notification.Level.choices

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(level=self.value()) if self.value() else queryset


class ReadFilter(admin.SimpleListFilter):
    """Filters notifications by whether their user has read or archived them."""

    title, parameter_name = _("status"), "read"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("unread", _("Unread")), ("read", _("Read")), ("archived", _("Archived"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        conditions: dict[str | None, dict[str, bool]] = {
            None: {},
            "unread": {"read_at__isnull": True, "archived_at__isnull": True},
            "read": {"read_at__isnull": False},
            "archived": {"archived_at__isnull": False},
        }
        if self.value() not in conditions:
            raise IncorrectLookupParameters
        return queryset.filter(**conditions[self.value()])
