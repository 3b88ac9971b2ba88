"""Filters beside lists of the admin. Apps add others: see ``mixins.add_filters()``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.live_jobs import count_states, has_state_counts
from notifications.db.keyset import MAX_IDS_READ, NEWEST_FIRST
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.jobs.declaring.tasks import aliases_with_engines
from notifications.models import Job, Notification


class KeysetFilter(admin.SimpleListFilter):
    """A filter that may say which rows of its list are read to find those that it selects: see ``read_page``."""

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        """Return the rows of the list as an index yields them, and the slices to read; None if none are needed.

        Called for each filter of the list, in their order, with what the one before has returned. ``rows`` meet all
        filters and the search already.
        """
        return rows, slices_of

    def row_check(self) -> Callable[[list[Any]], Collection[Any]] | None:
        """Return what decides which of some rows (keys) are listed, None if a query does."""
        return None


class FormFilter(KeysetFilter):
    """A filter with a form beside its choices, or in place of them."""

    def choices(self, changelist: Any) -> Any:
        #: What the filter's form sends besides its own fields, so that the other filters stay.
        self.other_parameters = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.expected_parameters()
            for value in values
        ]
        return super().choices(changelist)

    def with_value(self, choices: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return the choices, with the chosen value if it is none of them."""
        value = self.value()
        return choices if not value or value in dict(choices) else [*choices, (value, value)]


class UserFilter(FormFilter):
    """Filters rows by the name of their user."""

    title, parameter_name = _("user"), "user"
    template = "admin/notifications/text_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        key = self.user_key()
        return queryset.none() if key is None else queryset.filter(user_id=key)

    def user_key(self) -> Any:
        """Return the key of the named user, None if there is no such user or no name."""
        users = get_user_model()._base_manager.filter(**{get_user_model().USERNAME_FIELD: self.value() or ""})
        return users.values_list("pk", flat=True).first()


class JobOwnerFilter(UserFilter):
    """Filters jobs by the name of their user. Those of a user with few are looked up by their ids."""

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value():
            return rows, slices_of
        if (key := self.user_key()) is None:
            return rows, None  # no rows, while jobs without an owner may be many
        jobs = Job.objects.using(database()).filter(user_id=key)
        return _narrow_by_ids(rows, slices_of, NEWEST_FIRST.sort(jobs))


class NotificationUserFilter(UserFilter):
    """Filters notifications by the name of their user. Those of one with few are looked up by their ids."""

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value():
            return rows, slices_of
        notes = Notification.objects.using(database()).filter(user_id=self.user_key())
        return _narrow_by_ids(rows, slices_of, notes.order_by("user_id", "seq"))


class LinkedFilter(KeysetFilter):
    """Filters by a value of the column ``parameter_name``. It is shown when a link has chosen one."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, value)] if (value := self.value()) else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            return (
                queryset.filter(**{str(self.parameter_name): value}) if (value := self.value()) else queryset
            )
        except ValidationError as exc:
            raise IncorrectLookupParameters(exc) from exc


class LinkedTaskFilter(LinkedFilter):
    title, parameter_name = _("task"), "task_path"


class LinkedQueueFilter(LinkedFilter):
    title, parameter_name = _("queue"), "queue_name"


class LinkedWorkerFilter(LinkedFilter):
    title, parameter_name = _("worker"), "worker"


class LinkedBatchFilter(LinkedFilter):
    """Filters the jobs of a batch. Those of one with few are looked up by their ids."""

    title, parameter_name = _("batch"), "batch"

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value():
            return rows, slices_of
        jobs = Job.objects.using(database()).filter(batch=self.value())
        return _narrow_by_ids(rows, slices_of, jobs.order_by("batch", "state"))


class StateFilter(KeysetFilter):
    """Filters jobs by their state. Its choices have the numbers of jobs, as far as these are counted."""

    title, parameter_name = _("state"), "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Job.State.choices

    def choices(self, changelist: Any) -> Any:
        labels = count_states() if has_state_counts(changelist) else {}
        for state, choice in zip([None, *Job.State.values], super().choices(changelist), strict=True):
            yield choice | ({"display": labels[state]} if state in labels else {})

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not (value := self.value()):
            return queryset
        if value not in Job.State.values:
            raise IncorrectLookupParameters(f"{value!r} is no state.")
        return queryset.filter(state=value)


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


def _narrow_by_ids(rows: Any, slices_of: Any, found: Any) -> tuple[Any, Any]:
    """Return those of ``rows`` that were found, by their ids, and no slices; both unchanged if too many were found.

    ``found`` is a queryset in the order of the index that yields it.
    """
    ids = list(found.values_list("pk", flat=True)[: MAX_IDS_READ + 1])
    return (rows, slices_of) if len(ids) > MAX_IDS_READ else (rows.filter(pk__in=ids), None)


def has_runners() -> bool:
    """Return whether jobs run on anything but the built-in worker, so that pages say on what."""
    return bool(aliases_with_engines() or hooks.runners)
