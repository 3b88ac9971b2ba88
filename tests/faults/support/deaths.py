"""A process that meets its fate by its own hand, where no signal from outside hits often: at one of its statements.

FAULT_FATE says how, when, and at which statement, by number or by a pattern: "SIGKILL before 17",
"SIGKILL after INSERT INTO notifications_stream", "SIGSTOP after …": with all that it has locked, "DEAF after …": the
commit that follows is made, and its answer lost.
Here too: a receiver of notification_recording that asks for a job about each notification of `work`.
"""

import itertools
import os
import re
import signal

from django.apps import AppConfig
from django.db import OperationalError

#: Statements: of a claim, of an outcome, and those that insert into a table.
CLAIM = r"attempt ?= ?attempt ?\+ ?1"
OUTCOME = r"UPDATE notifications_job SET .*finished_at ?="
INSERT = r'INSERT INTO "?notifications_{}\b'


class Deaths(AppConfig):
    name = "tests.faults.support.deaths"
    label = "fault_deaths"

    def ready(self):
        from django.db.backends.signals import connection_created

        from notifications.signals import notification_recording

        notification_recording.connect(follow, weak=False)
        if told := os.environ.get("FAULT_FATE"):
            told_fate = fate(*told.split(" ", 2))
            connection_created.connect(
                lambda connection, **_: connection.execute_wrappers.append(told_fate), weak=False
            )


def follow(notification, job, **_):
    """Have something done about each notification, as a host sends its e-mail."""
    from tests.faults.support import tasks

    if job.task_path in (tasks.work.module_path, tasks.work_sync.module_path):
        tasks.follow_up.enqueue(str(notification.pk))


def fate(how, when, statement):
    number, once = itertools.count(1), iter([True])

    def is_it(sql):
        met = next(number) == int(statement) if statement.isdigit() else re.search(statement, sql)
        return met and next(once, False)

    def wrapper(execute, sql, params, many, context):
        here = is_it(sql)
        if here and when == "before":
            meet(how, context["connection"])
        answer = execute(sql, params, many, context)
        if here and when == "after":
            meet(how, context["connection"])
        return answer

    return wrapper


def meet(how, connection):
    if how == "DEAF":
        lose_the_answer(connection)
    else:
        os.kill(os.getpid(), getattr(signal, how))


def lose_the_answer(connection):
    really = connection._commit

    def commit():
        connection._commit = really
        really()
        connection.connection.close()
        raise OperationalError("The answer to COMMIT is lost.")

    connection._commit = commit
