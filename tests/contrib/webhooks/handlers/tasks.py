"""Tasks that are handlers."""

import asyncio

from notifications.api import notify, policy, task

#: The events that handlers have got.
events = []


@task
@policy(title="Handle {event[type]}", concurrency_key="crm:{event[user]}")
def handle(event):
    events.append(event)


@task
def handle_too(event):
    events.append(event)


#: Another name of a task.
same = handle_too


@task(takes_context=True)
async def handle_with_context(context, event):
    events.append(event)


@task
def notify_again(event):
    events.append(event)
    notify(event["user"], "from a handler")


@task
async def hold(event):
    """Run until it is cancelled."""
    events.append(event)
    try:
        await asyncio.Event().wait()
    finally:
        events.append("stopped")


@task
def fail(event):
    events.append(event)
    raise ValueError("a broken handler")


@task(priority=7, queue_name="crm")
@policy(title="Names {event[missing][key]}")
def handle_badly(event):
    pass


@task
def takes_two(first, second):
    pass


@task
def takes_none():
    pass


@task(queue_name="q" * 300)
def in_long_queue(event):
    pass
