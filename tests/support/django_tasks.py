"""Django's Tasks, which is the package django-tasks on Django 5.2. Tests compare with these, not with ours."""

import django

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus, task
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    from django_tasks import TaskResultStatus, task
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started

__all__ = [
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskError",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "task",
    "task_enqueued",
    "task_finished",
    "task_started",
]
