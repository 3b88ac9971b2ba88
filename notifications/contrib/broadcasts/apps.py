"""Broadcasts: staff write a notification in the admin and send it to many users.

models       a broadcast; each recipient has a notification with its id, the column ``Notification.broadcast``
admin/       the composer, the list and the page of broadcasts; the filter and the links of the list of notifications
audiences    which users get it
languages    what is written for each language, and which one a reader gets
starting     inserts a broadcast and enqueues the job that sends it, or the one that withdraws it
sending      the task that sends it, in chunks
withdrawal   the task that withdraws it
archiving    archives a chunk of its notifications
checks       whether ``USER_LANGUAGE`` names a field
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, Setting

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, SimpleListFilter
    from django.http import HttpRequest

    from notifications.models import Notification


class Broadcasts(Extension):
    name = "notifications.contrib.broadcasts"
    label = "notifications_broadcasts"
    verbose_name = _("Broadcasts")
    default_auto_field = "django.db.models.BigAutoField"
    settings = {"USER_LANGUAGE": Setting("")}

    def ready(self) -> None:
        from notifications.contrib.broadcasts import checks  # noqa: F401  (the import registers them)

    def may_raise(self, rows: Sequence[Notification]) -> Sequence[Notification]:
        """Leave out those of broadcasts that are withdrawn."""
        from notifications.contrib.broadcasts.withdrawal import read_withdrawn

        withdrawn = read_withdrawn({row.broadcast for row in rows if row.broadcast})
        return [row for row in rows if row.broadcast not in withdrawn]

    def senders(self, rows: Sequence[Notification]) -> Mapping[UUID, Any]:
        """Return who has sent the broadcasts. One that was deleted has an unknown sender."""
        from notifications.contrib.broadcasts.starting import read_senders

        # The column of a damaged row may hold something else than an id.
        broadcasts = {row.pk: row.broadcast for row in rows if isinstance(row.broadcast, UUID)}
        senders = read_senders(set(broadcasts.values()))
        return {pk: senders.get(broadcast) for pk, broadcast in broadcasts.items()}

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        """Keep broadcasts without their sender: their recipients are other users."""
        from notifications.contrib.broadcasts.models import Broadcast
        from notifications.streams.purging import clear_users

        return clear_users(Broadcast, "sender_id", keys)

    def list_filters(
        self, model_admin: ModelAdmin[Any], request: HttpRequest
    ) -> Sequence[type[SimpleListFilter]]:
        from notifications.contrib.broadcasts.admin.links import BroadcastFilter

        return (
            [BroadcastFilter]
            if model_admin.opts.concrete_model._meta.label == "notifications.Notification"
            else []
        )

    def list_links(self, model_admin: ModelAdmin[Any], request: HttpRequest) -> Sequence[tuple[str, str]]:
        from notifications.contrib.broadcasts.admin.links import links_to_composer

        is_shown = model_admin.opts.concrete_model._meta.label == "notifications.Notification"
        return links_to_composer(model_admin, request) if is_shown else []

    def origin_link(self, model_admin: ModelAdmin[Any], row: Notification) -> str:
        from notifications.contrib.broadcasts.admin.links import link_to_broadcast

        return link_to_broadcast(model_admin, row)
