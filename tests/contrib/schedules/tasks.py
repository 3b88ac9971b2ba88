"""Tasks of schedules."""

from notifications.api import policy, task


@task
@policy(notify=lambda job: {"title": "The report is ready"})
def report(fails):
    if fails:
        raise ValueError("no data")


@task
def add(a, b):
    return a + b


nightly = add.using(key="nightly")
