"""The admin of deliveries and preferences: what became of a notification, and what users have chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.exceptions import NotRegistered
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications.admin import (
    LateModule,
    ModelAdminBase,
    NotificationAdmin,
    OwnedMixin,
    ReadOnlyMixin,
    extend,
    page_context,
)
from notifications.contrib.deliveries.channels import label_of, list_channels
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.db import database
from notifications.exceptions import NotificationsError
from notifications.models import Notification
from notifications.times import format_exact

if TYPE_CHECKING:
    from notifications.contrib.deliveries import sending, timeline
else:
    sending = LateModule("notifications.contrib.deliveries.sending")
    timeline = LateModule("notifications.contrib.deliveries.timeline")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Sends a delivery again. It has no list: deliveries are shown on the page of their notification."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.resend_view)
        return [path("<uuid:id>/resend/", view, name="notifications_deliveries_delivery_resend")]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def resend_view(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """Ask whether a delivery is to be sent again, and with a POST send it.

        Only of a notification that the admin of notifications shows: that of a project may show some rows only.
        """
        try:
            notification_admin = self.admin_site.get_model_admin(Notification)
        except NotRegistered as exc:
            raise Http404("The admin site has no notifications.") from exc
        if not notification_admin.has_view_permission(request) or not may_resend(request):
            raise PermissionDenied
        delivery = Delivery.objects.using(database()).filter(pk=id).first()
        row = delivery and notification_admin.get_object(request, str(delivery.notification))
        if delivery is None or row is None:
            raise Http404("The delivery does not exist.")
        if not notification_admin.has_view_permission(request, row):
            raise PermissionDenied
        url = reverse(f"{self.admin_site.name}:notifications_notification_change", args=[row.pk])
        if request.method == "POST":
            self._resend(request, row, delivery)
            return HttpResponseRedirect(url)
        context = {
            **page_context(self, request),
            "title": _("Send it again by %(channel)s?") % {"channel": delivery.describe_channel()},
            "opts": Notification._meta,
            "notification": row,
            "delivery": _describe([delivery])[0],
            "back_url": url,
        }
        return TemplateResponse(request, "admin/notifications_deliveries/delivery/resend.html", context)

    def _resend(self, request: HttpRequest, row: Notification, delivery: Delivery) -> None:
        try:
            reason = sending.resend(delivery.pk)
        except (NotificationsError, ImproperlyConfigured) as exc:  # an engine that takes no jobs
            reason = str(exc)
        if reason:
            text = _("Nothing was sent. %(reason)s") % {"reason": reason}
            self.message_user(request, text, messages.WARNING)
            return
        self.log_change(request, row, f"Sent again: {delivery.channel}.")
        self.message_user(request, _("It is being sent again."), messages.SUCCESS)


@extend(NotificationAdmin)
class WithDeliveries(ModelAdminBase):
    """Adds the deliveries to the page of a notification."""

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if (row := kwargs.get("obj")) and (section := describe_deliveries(self, request, row)):
            context.setdefault("sections", []).append(section)
        return super().render_change_form(request, context, *args, **kwargs)


def describe_deliveries(
    model_admin: Any, request: HttpRequest, row: Notification
) -> tuple[str, dict[str, Any]] | None:
    """Return the part of the page of a notification that lists its deliveries, None if it has none."""
    rows = Delivery.objects.using(database()).filter(notification=row.pk).order_by("due_at", "id")
    deliveries = _describe(list(rows))
    if not deliveries:
        return None
    site = model_admin.admin_site
    if may_resend(request) and site.is_registered(Delivery):
        name = f"{site.name}:notifications_deliveries_delivery_resend"
        for shown in deliveries:
            if shown["state"] in sending.ENDED:
                shown["resend_url"] = reverse(name, args=[shown["id"]])
    return "admin/notifications_deliveries/delivery/section.html", {"deliveries": deliveries}


def may_resend(request: HttpRequest) -> bool:
    """Return whether the user may send deliveries again, by the permission to retry jobs."""
    return request.user.has_perm("notifications.change_job")


def _describe(deliveries: list[Delivery]) -> list[dict[str, Any]]:
    addresses = timeline.describe_addresses(deliveries)
    return [
        {
            "id": delivery.pk,
            "state": delivery.state,
            "channel": delivery.describe_channel(),
            "address": addresses[delivery.pk],
            "state_text": delivery.get_state_display(),
            "at": format_exact(delivery.ended_at or delivery.due_at),
            "reason": " ".join(filter(None, (delivery.describe_reason(), delivery.error, _doubt(delivery)))),
        }
        for delivery in deliveries
    ]


def _doubt(delivery: Delivery) -> str:
    return gettext("An attempt that was interrupted may have sent it.") if delivery.may_have_arrived else ""


class ChannelFilter(admin.SimpleListFilter):
    title = _("channel")
    parameter_name = "channel"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(channel, label_of(channel)) for channel in list_channels()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Preference]) -> QuerySet[Preference]:
        return queryset.filter(channel=self.value()) if self.value() else queryset


@admin.register(Preference)
class PreferenceAdmin(OwnedMixin, admin.ModelAdmin):
    list_display = ("user", "category", "channel_label", "choice", "changed_at")
    list_filter = ("user", ChannelFilter)
    fields = ("user", "category", "channel_label", "choice", "changed_at")
    ordering = ("-id",)
    sortable_by = ()

    @admin.display(description=_("channel"))
    def channel_label(self, row: Preference) -> str:
        return label_of(row.channel)
