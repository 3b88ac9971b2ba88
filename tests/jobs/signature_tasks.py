"""Tasks for the tests of signatures."""

from functools import wraps

from django.db import transaction

from notifications.api import policy, task


@task
def add(a, b):
    return a + b


@task
async def add_async(a, b):
    return a + b


@task
def anything(*args, **kwargs):
    return None


@task(takes_context=True)
def with_context(context, a):
    return a


@task
@policy(title="Number {a}")
def titled(a):
    return a


@task
@policy(retry_on=(Exception,), backoff=0)
def retried(a):
    return a


@task
@transaction.atomic
def atomic(a):
    return a


def pass_on(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def inject(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function("session", *args, **kwargs)

    return call


def consume(function):
    @wraps(function)
    def call(*args, **kwargs):
        kwargs.pop("tenant")
        return function(*args, **kwargs)

    return call


@task
@pass_on
def wrapped(a):
    return a


@task(takes_context=True)
@pass_on
def wrapped_with_context(context, a):
    return a


@task
@inject
def injected(session, a):
    return a


@task
@consume
def consumed(a):
    return a


@task
def raises(a):
    raise TypeError("It is no number.")


@task
@inject
def injected_raises(session, a):
    raise TypeError("It is no number.")
