"""The foreign keys to the users of the project that the models have."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


def user_key(**options: Any) -> Any:
    """Return a foreign key to a user: without constraint, index and reverse relation, unless the options differ.

    ``primary_key``
        The user is the primary key of the model.
    """
    is_primary = options.get("primary_key", False)
    options = {
        "related_name": "+",
        "db_constraint": False,
        "db_index": is_primary,
        "verbose_name": _("user"),
        **options,
    }
    field = _PrimaryKey if is_primary else models.ForeignKey
    return field(settings.AUTH_USER_MODEL, models.DO_NOTHING, **options)


class _PrimaryKey(models.OneToOneField):
    """A primary key that is the user.

    In ``dumpdata --natural-foreign`` it is a field too. Django writes a primary key as it is, which names another user
    where users have got other keys.
    """

    serialize = property(lambda self: True, lambda self, value: None)  # models set it to False

    def deconstruct(self) -> Any:
        # Migrations have one of Django's, which differs in dumps only.
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.OneToOneField", args, {**options, "serialize": False}
