"""What the pages of notifications show of broadcasts: a filter, a link to the composer, and one to the broadcast."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications.admin import ListFilter, ModelAdminBase, NotificationAdmin, add_filters, extend
from notifications.contrib.broadcasts.admin.composing import SEND_PERMISSION
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import database
from notifications.models import Notification

#: Broadcasts that the filter offers.
MAX_CHOICES = 10


class BroadcastFilter(ListFilter):
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
        return self.with_value(choices)

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


@extend(NotificationAdmin)
class WithBroadcasts(ModelAdminBase):
    """Adds to the pages of notifications."""

    def get_list_filter(self, request: HttpRequest) -> Any:
        return add_filters(super().get_list_filter(request), [BroadcastFilter])

    def list_links(self, request: HttpRequest) -> list[tuple[Any, str]]:
        """Add the link to the composer, for those who may send."""
        links, site = super().list_links(request), self.admin_site
        if site.is_registered(Broadcast) and request.user.has_perm(SEND_PERMISSION):
            url = reverse(f"{site.name}:notifications_broadcasts_broadcast_add")
            links.append((_("Send a notification"), url))
        return links

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = list(super().get_fields(request, obj))
        after = fields.index("job") + 1 if "job" in fields else len(fields)
        return [*fields[:after], "sent_with", *fields[after:]]

    @admin.display(description=_("sent with"))
    def sent_with(self, row: Notification) -> str:
        """Return a link to the broadcast that a notification was sent with."""
        if row.broadcast is None or not self.admin_site.is_registered(Broadcast):
            return "-"
        name = f"{self.admin_site.name}:notifications_broadcasts_broadcast_change"
        return format_html('<a href="{}">{}</a>', reverse(name, args=[row.broadcast]), _("A broadcast"))
