"""Mixins of all admin classes: read-only, on the database that the app writes, with the declared filters only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import django
from django.contrib.admin.decorators import display
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters, ModelAdmin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import FieldDoesNotExist
from django.db import transaction
from django.db.models import DateTimeField, Model, QuerySet
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from notifications import times
from notifications.db.outages import is_own_outage
from notifications.db.transactions import connection, database
from notifications.db.unavailable import OUTAGES
from notifications.http.access import database_unavailable_page
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

if TYPE_CHECKING:
    ModelAdminBase = ModelAdmin[Any]
else:  # With a base class, a mixin would come after it in the order of the admin's classes.
    ModelAdminBase = object

Mixin = TypeVar("Mixin")
#: What lists and pages show in place of an empty value.
NONE = mark_safe('<span class="none">-</span>')


class FilteredChangeList(ChangeList):
    """A list that accepts the parameters of its declared filters, and no other lookup of Django.

    ``?kwargs__startswith=`` would reveal to staff, one character after the other, what a field holds that no page shows
    them, and ``?title__regex=`` run their pattern in the process.

    It shows times in one short form, in place of the columns that Django writes out. Its admin knows them by name.
    """

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        for name in ("list_display", "list_display_links", "sortable_by"):
            if columns := getattr(self, name):
                setattr(self, name, [_to_column(self.model, column) for column in columns])

    def get_filters(self, request: HttpRequest) -> Any:
        result = super().get_filters(request)
        # Each filter has taken its own parameters out of these.
        by_date = {f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day", "gte", "lt")}
        for name in set(result[2]) - by_date:
            try:
                self.opts.get_field(name.partition("__")[0])
            except FieldDoesNotExist as exc:
                raise IncorrectLookupParameters(exc) from exc
            raise DisallowedModelAdminLookup(f"Filtering by {name} not allowed")
        return result


class ReadOnlyMixin:
    """Makes an admin read-only. Reads the database that the app writes, because a replica may lag."""

    empty_value_display = NONE

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FilteredChangeList

    @property
    def urls(self) -> list[Any]:
        """The pages. While the database is away they answer 503: going back shows what a form had."""
        urls = self.get_urls()  # type: ignore[attr-defined]
        for url in urls:
            url.callback = _answering_outages(url.callback)
        return urls  # type: ignore[no-any-return]

    @property
    def media(self) -> Media:
        return super().media + Media(css={"all": ["notifications/admin/lists.css"]})  # type: ignore[misc]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).using(database())  # type: ignore[misc]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["nonce"] = csp_nonce({}, request)
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc, no-any-return]

    def action_checkbox(self, row: Model) -> str:
        """Return the checkbox of a row in a label, which the style sheet makes as large as a finger."""
        return format_html("<label>{}</label>", super().action_checkbox(row))  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _to_column(model: type[Model], name: Any) -> Any:
    """Return what a column of a list shows: that of a time, or else what has this name."""
    fields = {field.name: field for field in model._meta.concrete_fields}
    field = fields.get(name)
    return _time_column(field) if isinstance(field, DateTimeField) else name


@cache
def _time_column(field: DateTimeField[Any, Any]) -> Callable[[Model], str]:
    """Return the column of a time, with the exact one on hover. It has the name of the field, for style sheets."""

    @display(description=field.verbose_name, ordering=field.name)
    def column(row: Model) -> str:
        moment = getattr(row, field.name)
        if moment is None:
            return NONE
        texts = (times.format_time(moment), times.format_exact(moment), times.format_short(moment))
        return format_html('<time datetime="{}" title="{}">{}</time>', *texts)

    column.__name__ = field.name
    return column


def _answering_outages(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except OUTAGES as exc:
            return _answer_outage(exc)
        if not getattr(response, "is_rendered", True):
            # Django renders it later, with the columns of the list.
            response.render = partial(_render, response.render)  # type: ignore[attr-defined]
        return response

    return wrapped


def _render(render: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        return render()
    except OUTAGES as exc:
        return _answer_outage(exc)


def _answer_outage(exc: Exception) -> HttpResponse:
    """Return the page for an outage of the app's database. Raises any other error."""
    if not is_own_outage(exc):
        raise exc
    log_database_error(exc)
    if connection().in_atomic_block:  # with ATOMIC_REQUESTS
        transaction.set_rollback(True, using=database())
    return database_unavailable_page()


def extend(model_admin: type[Any]) -> Callable[[type[Mixin]], type[Mixin]]:
    """Decorate a class of which an admin of the core then inherits, and with it the subclasses of projects.

    ::

        @extend(NotificationAdmin)
        class WithReceipts(ModelAdminBase):                # sms/admin.py, which Django imports
            def get_fields(self, request, obj=None):
                return [*super().get_fields(request, obj), "receipt"]

    It overrides methods of Django's ``ModelAdmin`` and calls ``super()``. Those of the admin itself come before it.
    """

    def decorate(mixin: type[Mixin]) -> type[Mixin]:
        model_admin.__bases__ = (mixin, *model_admin.__bases__)
        return mixin

    return decorate


def add_filters(filters: Iterable[Any], added: Sequence[Any], *, after: str = "") -> list[Any]:
    """Return the filters of a list with some more, for ``ModelAdmin.get_list_filter()``.

    They follow the one whose ``parameter_name`` is ``after``, or else come last.

    One takes the place of one of the core with the same ``parameter_name``, and is left out if a project's subclass of
    the admin has a filter of its own with it: of two only the first would get its value.
    """
    names = {spec.parameter_name for spec in added}
    own = [spec for spec in filters if not _is_of_core(spec) or spec.parameter_name not in names]
    names_of_own = [getattr(spec, "parameter_name", None) for spec in own]
    at = names_of_own.index(after) + 1 if after in names_of_own else len(own)
    return [*own[:at], *(spec for spec in added if spec.parameter_name not in names_of_own), *own[at:]]


def _is_of_core(spec: Any) -> bool:
    return getattr(spec, "__module__", "") == "notifications.admin.filters"


def list_url(model_admin: Any, request: HttpRequest, model: type[Model]) -> str:
    """Return the list of a model in the same admin site, "" if there is none that the user may view."""
    label, name, site = model._meta.app_label, model._meta.model_name, model_admin.admin_site
    if not site.is_registered(model) or not any(
        request.user.has_perm(f"{label}.{verb}_{name}") for verb in ("view", "change")
    ):
        return ""
    return reverse(f"admin:{label}_{name}_changelist", current_app=site.name)


def page_context(model_admin: Any, request: HttpRequest) -> dict[str, Any]:
    """Return the context of a page of the admin besides those of Django, and have it reverse URLs of the same site."""
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    return {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "breadcrumbs_are_list": django.VERSION >= (6, 1),
        "nonce": csp_nonce({}, request),
    }


def can_be_for_all(action: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an action to be done by ``change_all()`` if it is for all rows, not only for those of the page."""

    @wraps(action)
    def wrapped(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        if request.POST.get("select_across") == "1":
            return self.change_all(request, action.__name__)
        return action(self, request, queryset)

    return wrapped
