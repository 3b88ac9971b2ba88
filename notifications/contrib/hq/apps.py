"""The way from django-notifications-hq: imports its notifications. Its app and this one have the same label and table.

commands  ``manage.py notifications import_hq``
models    the table of the other app, under another name
rows      what a notification of it becomes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from notifications.extension import Extension


class ImportFromHq(Extension):
    name = "notifications.contrib.hq"
    label = "notifications_hq"
    verbose_name = "django-notifications-hq"

    subcommands: ClassVar[Mapping[str, str]] = {
        "import_hq": "notifications.contrib.hq.commands.ImportHqCommand"
    }
