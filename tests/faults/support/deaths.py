"""A process that dies by its own hand, where no signal from outside hits often: between two statements.

FAULT_DIES_AT is the number of the statement; even: before it is sent, odd: after it has been answered.
FAULT_FREEZES_AFTER is how the statement begins after which, once, the process stops with all that it has locked.
Here too: a receiver of notification_recording that asks for a job about each notification of `work`.
"""

import itertools
import os
import signal

from django.apps import AppConfig


class Deaths(AppConfig):
    name = "tests.faults.support.deaths"
    label = "fault_deaths"

    def ready(self):
        from django.db.backends.signals import connection_created

        from notifications.signals import notification_recording

        notification_recording.connect(follow, weak=False)
        if fate := int(os.environ.get("FAULT_DIES_AT", "0")):
            die = deadly(fate)
            connection_created.connect(
                lambda connection, **_: connection.execute_wrappers.append(die), weak=False
            )
        if beginning := os.environ.get("FAULT_FREEZES_AFTER"):
            freeze = frozen(beginning)
            connection_created.connect(
                lambda connection, **_: connection.execute_wrappers.append(freeze), weak=False
            )


def follow(notification, job, **_):
    """Have something done about each notification, as a host sends its e-mail."""
    from tests.faults.support import tasks

    if job.task_path in (tasks.work.module_path, tasks.work_sync.module_path):
        tasks.follow_up.enqueue(str(notification.pk))


def deadly(fate):
    number = itertools.count(1)

    def wrapper(execute, sql, params, many, context):
        here = next(number) == fate
        if here and fate % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = execute(sql, params, many, context)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return wrapper


def frozen(beginning):
    once = iter([True])

    def wrapper(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if sql.startswith(beginning) and next(once, False):
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    return wrapper
