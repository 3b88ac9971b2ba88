"""An app of a host that does to the worker whatever such code can: at the place, and in the way, that a job names."""

import asyncio
import time

from django.apps import AppConfig
from django.db import connection, transaction

#: Seconds, longer than a receiver may take inside the transaction.
LONG = 6.5


class Hostile(AppConfig):
    name = "tests.faults.support.hostile"
    label = "fault_hostile"

    def ready(self):
        from notifications.compat import task_finished, task_started
        from notifications.signals import job_finished, notification_recorded, notification_recording

        for signal, receiver in (
            (notification_recording, recording),
            (notification_recorded, recorded),
            (job_finished, finished),
            (task_started, task_began),
            (task_finished, task_ended),
        ):
            signal.connect(receiver, weak=False)


def recording(job, notification, **_):
    misbehave_at("recording", job.title)
    if job.title.startswith("hook "):
        transaction.on_commit(lambda: misbehave_at("hook", job.title))


def recorded(notification, **_):
    misbehave_at("recorded", notification.title)


def finished(job, **_):
    misbehave_at("finished", job.title)


def task_began(task_result, **_):
    misbehave_at("task_started", " ".join(map(str, task_result.args)))


def task_ended(task_result, **_):
    misbehave_at("task_finished", " ".join(map(str, task_result.args)))


def misbehave_at(place, words):
    """Do it if these words, "place way", name this place."""
    named, _, way = words.partition(" ")
    if named == place:
        WAYS[way]()


def raise_exception():
    raise RuntimeError("hostile")


def raise_base_exception():
    raise BaseException("hostile")


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


def raise_system_exit():
    raise SystemExit(3)


def raise_cancelled():
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
    time.sleep(LONG)


def take_long_in_sql():
    if connection.vendor != "postgresql":
        return take_long()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [LONG])


WAYS = {
    way.__name__: way
    for way in (
        raise_exception,
        raise_base_exception,
        raise_keyboard_interrupt,
        raise_system_exit,
        raise_cancelled,
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
#: Where every way can be tried.
SIGNALS = ("recording", "hook", "recorded", "finished", "task_started", "task_finished")
#: Where only raising does anything but block the event loop.
FUNCTIONS = ("notify", "retry_after", "tell_owner")
RAISES = tuple(way for way in WAYS if way.startswith("raise_"))
SLOW = ("take_long", "take_long_in_sql")
