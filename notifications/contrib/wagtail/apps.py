"""Wagtail: the bell in the header of its admin, and policies for its background tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from notifications.extension import Extension


class WagtailAdmin(Extension):
    """Puts the bell into the header, and lets index tasks run one after another.

    An index task looks for an entry, and inserts it where there is none: of two that run at once for one page, both
    insert it, and one fails with an IntegrityError.
    """

    name = "notifications.contrib.wagtail"
    label = "notifications_wagtail"
    verbose_name = "Wagtail"

    tasks: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "modelsearch.tasks.*": {
            "retry_on": ["django.db.IntegrityError", "django.db.OperationalError"],
            "max_attempts": 10,
            "concurrency_key": "search-index",
            "notify": False,
        },
        "wagtail.*": {"notify": False},
    }
