"""Signals of the app.

``notification_recorded``
    Sent after the commit, not after a rollback. Arguments: ``notification``. ``sender`` is Notification.
    A receiver that calls ``notify()`` is not called for the notifications that it creates.
``job_finished``
    Sent after the commit. Arguments: ``job``.

    A worker sends these two, and Django's ``task_started`` and ``task_finished``, from one thread in the order of
    its commits. They may be lost when the process is killed or receivers do not keep up: what must
    not be lost is the task of a handler.
``outbound_started``, ``outbound_retrying``, ``outbound_ended``
    When ``notifications.outbound`` begins a call, is about to try it again, and is done with it.
    Arguments: ``id`` (of the call, within the process), ``method``, ``host`` (as asked for, with its port) and
    ``attempt``; of a retry also ``status`` (0 if there was no answer), ``error`` (the exception or None) and ``pause``
    (seconds); of the end ``status``, ``error``, ``duration`` (seconds, in all) and ``bytes`` (of the body, unpacked).
    Receivers are called where the call is made, on the event loop: they are sync, quick, and use no database.
"""

from typing import Any

from django.dispatch import Signal

notification_recorded = Signal()
job_finished = Signal()
outbound_started = Signal()
outbound_retrying = Signal()
outbound_ended = Signal()

#: Private: a hint after a commit, for the doorbell. Arguments: ``users`` (list of keys), ``queue`` (bool), ``changes``
#: (``streams.carrying.Changes``, of those users for whom it is all).
rung = Signal()


def __getattr__(name: str) -> Any:
    if name == "notify":  # an AttributeError would become an ImportError without this text
        raise ImportError(
            "notify is a signal of django-notifications-hq. This app has the function notifications.api.notify(); see "
            "'From django-notifications-hq' in its documentation."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
