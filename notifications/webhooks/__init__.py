"""Send events to programs: webhooks, signed as `Standard Webhooks <https://www.standardwebhooks.com>`_ says.

>>> from notifications import webhooks
>>> webhook = webhooks.create("https://crm.example.com/hooks/jobs", events=["job.failed"], owner=user)
>>> webhook.secret  # for the receiver

Import it where models can be imported. Async code calls it by ``sync_to_async``.
"""

from notifications.webhooks.endpoints import (
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

__all__ = [
    "TooManyWebhooks",
    "WebhookInfo",
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
]
