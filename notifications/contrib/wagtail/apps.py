"""The Django app of the adapter, which has templates only."""

from __future__ import annotations

from django.apps import AppConfig


class WagtailConfig(AppConfig):
    """Puts the bell into the header."""

    name = "notifications.contrib.wagtail"
    label = "notifications_wagtail"
