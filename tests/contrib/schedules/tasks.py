"""Tasks of schedules."""

from notifications.api import task


@task
def add(a, b):
    return a + b


nightly = add.using(key="nightly")
