"""Celery: its workers run the jobs of this app.

The list of the modules is in ``__init__.py``, which the project's ``celery.py`` imports before Django is ready.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension


class Celery(Extension):
    name = "notifications.contrib.celery"
    label = "notifications_celery"
    verbose_name = _("Celery")
