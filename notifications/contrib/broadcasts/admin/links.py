"""What the pages of notifications show of broadcasts: a filter, a link to the composer, and one to the broadcast."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications.admin import KeysetFilter
from notifications.contrib.broadcasts.admin.composing import SEND_PERMISSION
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import database
from notifications.models import Notification

#: Broadcasts that the filter offers.
MAX_CHOICES = 10


class BroadcastFilter(KeysetFilter):
    """Filters notifications by the broadcast that they were sent with, by an index that has the order of the list.

    The choices are the newest broadcasts, for staff who may view them.
    """

    title = _("broadcast")
    parameter_name = "broadcast"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        choices = []
        site = model_admin.admin_site
        if site.is_registered(Broadcast) and site.get_model_admin(Broadcast).has_view_permission(request):
            newest = Broadcast.objects.using(database()).order_by("-id").values_list("id", "title")
            choices = [(str(id), title) for id, title in newest[:MAX_CHOICES]]
        value = self.value()
        return choices if not value or value in dict(choices) else [*choices, (value, value)]

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value():
            return rows, slices_of
        if set(changelist.get_filters_params()) == {self.parameter_name} and not changelist.query:
            return rows, None
        return rows, self.queryset(request, slices_of)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            return queryset.filter(broadcast=UUID(value)) if (value := self.value()) else queryset
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc


def list_filters(model_admin: Any, request: HttpRequest) -> list[type[BroadcastFilter]]:
    """Return the filter of the list of notifications. See ``Extension.list_filters()``."""
    return [BroadcastFilter] if _is_of_notifications(model_admin) else []


def links_to_composer(model_admin: Any, request: HttpRequest) -> list[tuple[str, str]]:
    """Return the link to the composer above the list of notifications, for those who may send."""
    site = model_admin.admin_site
    if not _is_of_notifications(model_admin):
        return []
    if not (site.is_registered(Broadcast) and request.user.has_perm(SEND_PERMISSION)):
        return []
    return [(_("Send a notification"), reverse(f"{site.name}:notifications_broadcasts_broadcast_add"))]


def link_to_broadcast(model_admin: Any, row: Notification) -> str:
    """Return the link to the broadcast that a notification was sent with, "" if there is none."""
    site = model_admin.admin_site
    if row.broadcast is None or not site.is_registered(Broadcast):
        return ""
    url = reverse(f"{site.name}:notifications_broadcasts_broadcast_change", args=[row.broadcast])
    return format_html('<a href="{}">{}</a>', url, _("A broadcast"))


def _is_of_notifications(model_admin: Any) -> bool:
    return model_admin.opts.concrete_model is Notification
