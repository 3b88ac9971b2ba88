"""A process that dies by its own hand, where no signal from outside hits often: between two statements.

FAULT_DIES_AT is the number of the statement; even: before it is sent, odd: after it has been answered. Jobs of whoever
listens to notification_recording are asked for here too.
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


def follow(notification, job, **_):
    """Have something done about each notification, as a host sends its e-mail."""
    from tests.faults.support import tasks

    if job.task_path.startswith(tasks.__name__):
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
