"""Broadcasts: staff write a notification in the admin and send it to many users.

models       a broadcast; each recipient has a notification with its id, the column ``Notification.broadcast``
admin/       the composer, the list and the page of broadcasts; the filter and the links of the list of notifications
audiences    which users get it, and which language each of them reads
starting     inserts a broadcast and enqueues the job that sends it, or the one that withdraws it
sending      the task that sends it, in chunks
operations   what the overview of operations shows of broadcasts, and sends
withdrawal   the task that withdraws it: it archives its notifications, in chunks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, import_later


class Broadcasts(Extension):
    name = "notifications.contrib.broadcasts"
    label = "notifications_broadcasts"
    verbose_name = _("Broadcasts")
    # A broadcast stays without its sender: its recipients are other users.
    tables: ClassVar[Mapping[str, str]] = {"notifications_broadcasts.Broadcast.sender_id": "named user"}

    before_raised = import_later("withdrawal.find_withdrawn")
    parts_of = import_later("starting.describe_senders", rows_with="broadcast")
