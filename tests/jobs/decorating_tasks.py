"""A task that reports what it does in ways that cannot be stored as they are, after its work is done."""

import asyncio
import os

from django.contrib.auth import get_user_model
from django.utils.functional import lazystr

from notifications.api import batch, notify, progress, task, track
from notifications.contrib.output import output
from notifications.contrib.questions import question

#: A file name that is not UTF-8, as ``os.listdir()`` returns it.
UNDECODABLE = os.fsdecode(b"caf\xe9.csv")
LONG = "x" * 2_001


class Unspeakable:
    """Raises whatever is asked of it."""

    def __str__(self):
        raise RuntimeError("str")

    def __int__(self):
        raise RuntimeError("int")

    def __len__(self):
        raise RuntimeError("len")

    def __iter__(self):
        return iter("ab")


def _notify(title, **fields):
    notify(get_user_model().objects.get(), title, **fields)


def _enqueue_titled(title):
    noop.using(title=title).enqueue()
    with batch(title=title):
        noop.enqueue()


DECORATIONS = {
    **{
        f"progress message {name}": lambda value=value: progress(1, 2, value)
        for name, value in {
            "long": LONG,
            "undecodable": UNDECODABLE,
            "nul": "a\0b",
            "none": None,
            "number": 3,
            "bytes": b"\xff",
            "lazy": lazystr(LONG),
            "unspeakable": Unspeakable(),
        }.items()
    },
    **{
        f"progress number {value!s:.20}": lambda value=value: progress(value, value)
        for value in (None, -1, 2**53, 10**30, float("nan"), float("inf"), "many", [1])
    },
    "progress number unspeakable": lambda: progress(Unspeakable(), Unspeakable()),
    "track long": lambda: list(track([1, 2], message=LONG)),
    "track without a length": lambda: list(track(Unspeakable(), message=UNDECODABLE)),
    "output bytes": lambda: output(b"\xff"),
    "output none": lambda: output(None),
    "output unspeakable": lambda: output(Unspeakable()),
    "output undecodable": lambda: output(UNDECODABLE),
    "title long": lambda: _enqueue_titled(LONG),
    "title undecodable": lambda: _enqueue_titled(UNDECODABLE),
    "notify long": lambda: _notify(
        LONG,
        body=LONG,
        actor=LONG,
        target={"name": LONG, "url": "/"},
        actions=[{"label": LONG, "url": "/"}],
    ),
    "notify undecodable": lambda: _notify(UNDECODABLE, body=UNDECODABLE, actor=UNDECODABLE),
}


@task
async def noop():
    pass


@task
def decorate(name):
    DECORATIONS[name]()
    return "done"


@task
async def decorate_async(name):
    await asyncio.sleep(0)
    if not name.startswith(("title", "notify")):
        DECORATIONS[name]()
    return "done"


@task
def ask(title):
    return question(UNDECODABLE if title == "undecodable" else title, name="go", choices={"yes": "Yes"})
