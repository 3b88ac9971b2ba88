"""Callbacks: a job gives an upstream a URL, and waits until the upstream calls it.

No model is imported at the top: the package may be imported before the models are ready.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from notifications.conf import settings
from notifications.db import database
from notifications.exceptions import CallbackExpired
from notifications.extension import require
from notifications.inbox import absolute, job_path
from notifications.jobs import DurableCall, validate_duration
from notifications.worker import current_execution

if TYPE_CHECKING:
    from notifications.models import Wait


class Callback:
    """A call that the job waits for.

    ``url``
        The address that the upstream calls, once, by a POST of at most 64 KiB. It is a secret, and the same in each
        execution of the task.
    """

    def __init__(self, call: DurableCall, name: str, wait: Wait, url: str) -> None:
        self._call, self._name, self._wait, self.url = call, name, wait, url

    def __repr__(self) -> str:
        return f"<Callback {self._name!r}>"

    def result(self) -> Any:
        """Return what the call has brought: its JSON, or its text if it was not sent as JSON; None without a body.

        Suspends the job until it was called. Raises ``CallbackExpired`` of ``notifications.exceptions``.
        """
        self._call.refuse_to_block("result")
        return self._value_of(self._call.read(self._read))

    async def aresult(self) -> Any:
        """See result()."""
        return self._value_of(await self._call.aread(self._read))

    def _read(self) -> Wait:
        from notifications.models import Wait

        return Wait.objects.using(database()).filter(id=self._wait.id).first() or self._wait

    def _value_of(self, wait: Wait) -> Any:
        execution = current_execution()
        if execution is None or execution.job.id != self._call.execution.job.id:
            raise RuntimeError("The result of a callback was requested outside of its job.")
        self._call.check_running()
        if wait.ended_at is None:
            self._call.suspend([wait])
        if wait.how != "called_back":
            raise CallbackExpired(self._name)
        return None if wait.value is None else json.loads(wait.value)


@sensitive_variables()
def callback(name: str, secret: str | None = None, expires: timedelta | None = None) -> Callback:
    """Return a callback of the running job, whose URL is stored when this returns.

    ::

        reply = callback("bank")
        step("ask-bank", bank.ask, order.pk, reply.url)
        decision = reply.result()

    ``name``
        As that of ``step()``, of whose names it must differ.
    ``secret``
        ``whsec_`` and base64: the call must be signed with it, as Standard Webhooks says.
    ``expires``
        More than nothing, at most ten years, from the first execution. Then ``result()`` raises ``CallbackExpired``.

    Raises ``django.core.exceptions.ImproperlyConfigured`` without ``NOTIFICATIONS["SITE_URL"]``; RuntimeError outside
    of a job and inside a transaction; TypeError and ValueError.
    """
    _validate(secret, expires)
    call = DurableCall("callback", name)
    return call.read(_store, call, name, secret, expires)


@sensitive_variables()
async def acallback(name: str, secret: str | None = None, expires: timedelta | None = None) -> Callback:
    """See callback()."""
    _validate(secret, expires)
    call = DurableCall("acallback", name, is_async=True)
    return await call.aread(_store, call, name, secret, expires)


@sensitive_variables()
def _validate(secret: str | None, expires: timedelta | None) -> None:
    require("notifications.contrib.webhooks")
    if secret is not None:
        from notifications.contrib.webhooks.signing import read_secret  # with standardwebhooks

        read_secret(secret)
    if expires is not None:
        validate_duration("expires", expires)
    if not settings.SITE_URL:
        raise ImproperlyConfigured(
            "NOTIFICATIONS['SITE_URL'] is empty, so a callback has no URL. Set it, as to https://shop.example."
        )


@sensitive_variables()
def _store(call: DurableCall, name: str, secret: str | None, expires: timedelta | None) -> Callback:
    from notifications.contrib.webhooks.callback_storage import store_callback

    call.is_stored(name, "callback")
    wait, token = store_callback(call.execution.job, name, secret or "", expires)
    path = job_path(wait.id, "callback")
    if not path:
        raise ImproperlyConfigured("The URLs of notifications are not included, so a callback has no URL.")
    return Callback(call, name, wait, absolute(f"{path}{token}/"))
