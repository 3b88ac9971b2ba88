"""The tasks of the examples in docs/how-to/testing.md."""

from notifications.api import policy, task


class Busy(Exception):
    pass


@task
def make_report(id):
    return {"rows": 12400}


@task(takes_context=True)
@policy(retry_on=(Busy,))
def call_upstream(context, url):
    if context.attempt == 1:
        raise Busy
    return "well"
