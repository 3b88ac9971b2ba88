"""In which language each user reads, where ``USER_LANGUAGE`` names the field of the user model that has it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import router
from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import get_supported_language_variant

from notifications.conf import WrongDeclaration, settings
from notifications.db.transactions import chunks

logger = logging.getLogger("notifications")

#: Users whose languages one query reads.
MAX_USERS_READ = 1_000


def read_languages(keys: Sequence[Any]) -> dict[Any, str]:
    """Return the language of each of these users as it is stored, in one query; none without ``USER_LANGUAGE``.

    Raises ``FieldError`` if the user model has no such field.
    """
    if not settings.USER_LANGUAGE:
        return {}
    model: Any = get_user_model()
    users = QuerySet(model, using=router.db_for_write(model)).filter(pk__in=keys)
    return {key: language or "" for key, language in users.values_list("pk", settings.USER_LANGUAGE)}


def read_site_languages(keys: Sequence[Any]) -> dict[Any, str]:
    """Return the language of the site in which each of these users reads, without those for whom it has none."""
    found: dict[Any, str] = {}
    try:
        for chunk in chunks(keys, MAX_USERS_READ):
            for key, language in read_languages(chunk).items():
                try:
                    found[key] = get_supported_language_variant(language)
                except LookupError:
                    continue
    except FieldError as exc:  # W035
        logger.warning("Could not read the languages of users: %s", exc)
    return found


def has_lazy(values: Iterable[Any]) -> bool:
    """Return whether one of these values is a lazy translation, or a mapping or a sequence with one."""
    for value in values:
        if value is None or type(value) is str:  # as most are
            continue
        if isinstance(value, Mapping):
            is_lazy = any(isinstance(text, Promise) for text in value.values())
        else:
            is_lazy = has_lazy(value) if isinstance(value, list | tuple) else isinstance(value, Promise)
        if is_lazy:
            return True
    return False


def find_wrong_language() -> list[WrongDeclaration]:
    """Return W035 if ``USER_LANGUAGE`` names no field of users. It makes no query."""
    try:
        if not (name := settings.USER_LANGUAGE):
            return []
        get_user_model()._base_manager.values_list(name)
    except ImproperlyConfigured:  # which another check reports
        return []
    except FieldError as exc:
        message = (
            f"NOTIFICATIONS['USER_LANGUAGE'] is {name!r}, which is no field of users: no language is known."
        )
        hint = f'Name it as in User.objects.values_list("profile__language"). {exc}'
        return [WrongDeclaration("notifications.W035", message, hint)]
    return []
