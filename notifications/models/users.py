"""The foreign key to the users of the project that the models have."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


def user_key(**options: Any) -> Any:
    """Return a foreign key to a user: without constraint, index and reverse relation, unless the options differ."""
    options = {
        "related_name": "+",
        "db_constraint": False,
        "db_index": False,
        "verbose_name": _("user"),
        **options,
    }
    return models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, **options)
