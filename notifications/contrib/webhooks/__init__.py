"""Jobs and calls of programs for events: handlers, webhooks, and URLs that are called when a job ends or waits.

Webhooks are signed as `Standard Webhooks <https://www.standardwebhooks.com>`_ says.

>>> from notifications.contrib import webhooks
>>> webhook = webhooks.create("https://crm.example.com/hooks/jobs", events=["job.failed"], owner=user)
>>> webhook.secret  # for the receiver

Async code calls the functions of webhooks by ``sync_to_async``. ``apps.py`` says what belongs to the app.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from notifications.contrib.webhooks.callbacks import Callback, acallback, callback

if TYPE_CHECKING:
    from notifications.contrib.webhooks.endpoints import (
        TooManyWebhooks,
        WebhookInfo,
        create,
        delete,
        endpoints_of,
        resend,
        resend_failed,
        rotate_secret,
        send_test,
        turn_off,
        turn_on,
        update,
    )
    from notifications.contrib.webhooks.signing import verify_webhook

__all__ = [
    "Callback",
    "TooManyWebhooks",
    "WebhookInfo",
    "acallback",
    "callback",
    "create",
    "delete",
    "endpoints_of",
    "resend",
    "resend_failed",
    "rotate_secret",
    "send_test",
    "turn_off",
    "turn_on",
    "update",
    "verify_webhook",
]


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "signing" if name == "verify_webhook" else "endpoints"  # which imports models
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
