"""What the admin's page of a notification shows of its deliveries, and the page that asks before one is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import django
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications.admin.timelines import moment
from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE
from notifications.deliveries import sending
from notifications.deliveries.devices import of_user
from notifications.deliveries.timeline import address_of
from notifications.exceptions import NotificationsError
from notifications.models import Delivery, Notification
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as _ModelAdmin
else:  # With a base class, the mixin would come after it in the order of the admin's classes.
    _ModelAdmin = object


class DeliveriesMixin(_ModelAdmin):
    """Adds the deliveries of a notification to its page, and sends one again."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.resend_view)
        return [
            path(
                "<path:object_id>/resend/<uuid:delivery_id>/", view, name="notifications_notification_resend"
            ),
            *super().get_urls(),
        ]

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send deliveries again, by the permission to retry jobs."""
        return request.user.has_perm("notifications.change_job")

    def resend_view(self, request: HttpRequest, object_id: str, delivery_id: UUID) -> HttpResponse:
        """Ask whether a delivery is to be sent again, and with a POST send it."""
        if not self.has_view_permission(request) or not self.has_resend_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        rows = Delivery.objects.using(database()).filter(pk=delivery_id)
        delivery = row and rows.filter(notification=row.pk).first()
        if delivery is None:
            raise Http404("The delivery does not exist.")
        url = reverse(f"{self.admin_site.name}:notifications_notification_change", args=[row.pk])
        if request.method == "POST":
            self._resend(request, row, delivery)
            return HttpResponseRedirect(url)
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Send it again by %(channel)s?") % {"channel": delivery.get_channel_display()},
            "opts": self.opts,
            "breadcrumbs_are_list": django.VERSION >= (6, 1),
            "notification": row,
            "delivery": _describe([delivery], row.user_id)[0],
            "back_url": url,
            "nonce": csp_nonce({}, request),
        }
        return TemplateResponse(request, "admin/notifications/notification/resend.html", context)

    def _resend(self, request: HttpRequest, row: Notification, delivery: Delivery) -> None:
        try:
            reason = sending.resend(delivery.pk)
        except (NotificationsError, ImproperlyConfigured) as exc:  # an engine that takes no jobs
            reason = str(exc)
        except UNAVAILABLE as exc:
            log_database_error(exc)
            reason = str(_("The database is unavailable. Try again in a moment."))
        if reason:
            text = _("Nothing was sent. %(reason)s") % {"reason": reason}
            self.message_user(request, text, messages.WARNING)
            return
        self.log_change(request, row, f"Sent again: {delivery.channel}.")
        self.message_user(request, _("It is being sent again."), messages.SUCCESS)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            rows = Delivery.objects.using(database()).filter(notification=row.pk).order_by("due_at", "id")
            context["deliveries"] = _describe(list(rows), row.user_id)
            if self.has_resend_permission(request):
                name = f"{self.admin_site.name}:notifications_notification_resend"
                for shown in context["deliveries"]:
                    if shown["state"] in sending.ENDED:
                        shown["resend_url"] = reverse(name, args=[row.pk, shown["id"]])
        return super().render_change_form(request, context, *args, **kwargs)


def _describe(deliveries: list[Delivery], user: Any) -> list[dict[str, Any]]:
    """Return what is shown of the deliveries of a notification of a user (key)."""
    names = {str(device.id): device.name for device in of_user(user)}
    return [
        {
            "id": delivery.pk,
            "state": delivery.state,
            "channel": delivery.get_channel_display(),
            "address": address_of(delivery, names) if delivery.address else "",
            "state_text": delivery.get_state_display(),
            "at": moment(delivery.ended_at or delivery.due_at),
            "reason": " ".join(
                filter(None, (delivery.get_reason_display(), delivery.error, _doubt(delivery)))
            ),
        }
        for delivery in deliveries
    ]


def _doubt(delivery: Delivery) -> str:
    return gettext("An attempt that was interrupted may have sent it.") if delivery.may_have_arrived else ""
