"""The check of spans."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register
from django.core.exceptions import ImproperlyConfigured

from notifications import conf
from notifications.tracing import spans


@register("notifications")
def check_opentelemetry(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W008: spans are on, and OpenTelemetry is not installed."""
    try:
        is_on = conf.settings.OPENTELEMETRY
    except ImproperlyConfigured:
        return []  # E002 or E003
    if not is_on or spans.is_installed():
        return []
    message = (
        "NOTIFICATIONS['OPENTELEMETRY'] is on, but opentelemetry-api is not installed: there are no spans."
    )
    hint = 'pip install "asyncsite-notifications[opentelemetry]"'
    return [Warning(message, hint=hint, id="notifications.W008")]
