"""The system check of rates."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, register
from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings
from notifications.contrib.rates.api import declared_keys
from notifications.contrib.rates.declarations import name_of, read_rates
from notifications.extension import WrongDeclaration


@register("notifications")
def check_rates(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W046 to W048: what is wrong with declared rates, and imported tasks whose rate is not declared."""
    try:
        declared = read_rates()
    except ImproperlyConfigured:
        return []  # E002 says what is wrong with the setting
    known = ", ".join(sorted(declared.by_name)) or "none"
    undeclared = [
        WrongDeclaration(
            "notifications.W048",
            f"The task {path} has the rate {key!r}, which NOTIFICATIONS['RATES'] does not declare. Its jobs are not "
            "limited.",
            f"Declare it, or name one of these: {known}.",
        )
        for key, path in declared_keys()
        if name_of(key) not in settings.RATES
    ]
    return [each.as_check_message() for each in (*declared.wrong, *undeclared)]
