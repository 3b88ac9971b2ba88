"""An app whose code misbehaves, at the place and in the way that the title of a job names."""

import asyncio
import time

from django.db import connection, transaction

#: Longer than a notify function may take.
SLOW_SECONDS = 6.5


def change():
    from notifications.signals import job_finished, notification_recorded
    from tests.support.django_tasks import task_finished, task_started

    for signal, receiver in (
        (notification_recorded, recorded),
        (job_finished, finished),
        (task_started, on_task_started),
        (task_finished, on_task_finished),
    ):
        signal.connect(receiver, weak=False)


def recorded(notification, **_):
    misbehave_at("recorded", notification.title)


def finished(job, **_):
    misbehave_at("finished", job.title)


def on_task_started(task_result, **_):
    misbehave_at("task_started", " ".join(map(str, task_result.args)))


def on_task_finished(task_result, **_):
    misbehave_at("task_finished", " ".join(map(str, task_result.args)))


def misbehave_at(place, target):
    """Misbehave if `target`, "place way", names this place."""
    target_place, _, way = target.partition(" ")
    if target_place == place:
        WAYS[way]()


def raise_exception():
    raise RuntimeError("hostile")


def raise_base_exception():
    raise BaseException("hostile")


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


def raise_system_exit():
    raise SystemExit(3)


def raise_cancelled_error():
    raise asyncio.CancelledError


def leave_atomic_open():
    transaction.atomic().__enter__()
    connection.ensure_connection()


def roll_back():
    connection.ensure_connection()
    connection.connection.rollback()


def begin():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


def close():
    connection.close()


def close_raw():
    connection.ensure_connection()
    connection.connection.close()


def end_session():
    if connection.vendor != "postgresql":
        return close_raw()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def take_long():
    time.sleep(SLOW_SECONDS)


def take_long_in_sql():
    if connection.vendor != "postgresql":
        return take_long()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [SLOW_SECONDS])


WAYS = {
    way.__name__: way
    for way in (
        raise_exception,
        raise_base_exception,
        raise_keyboard_interrupt,
        raise_system_exit,
        raise_cancelled_error,
        leave_atomic_open,
        roll_back,
        begin,
        close,
        close_raw,
        end_session,
        take_long,
        take_long_in_sql,
    )
}
#: Signals of which every kind of misbehavior is tested, as it is of notify functions.
SIGNALS = ("recorded", "finished", "task_started", "task_finished")
#: Places where only exceptions are tested, because the other kinds would block the event loop.
FUNCTIONS = ("retry_after", "tell_owner")
RAISING_WAYS = tuple(way for way in WAYS if way.startswith("raise_"))
SLOW_WAYS = ("take_long", "take_long_in_sql")
