"""Tasks that make files."""

import csv
from datetime import timedelta

from django.db import transaction

from notifications.api import apause, policy, progress, task
from notifications.contrib.files import aadd_file, add_file, result_file
from notifications.contrib.steps import astep, step
from notifications.worker import current_execution


@task
def export(rows=2, name="orders.csv", keep_days=30, **options):
    with result_file(name, encoding="utf-8", keep=timedelta(days=keep_days), **options) as file:
        csv.writer(file).writerows([number, f"größe {number}"] for number in range(rows))
    return rows


@task
def export_several(names):
    for number, name in enumerate(names):
        add_file(name, [f"{number}"])


@task
async def aexport():
    async def chunks():
        for number in range(3):
            yield f"chunk {number}\n"

    await aadd_file("chunks.txt", chunks())


@task
@policy(max_attempts=2, retry_on=ValueError, backoff=0)
def fail(times, name="orders.csv"):
    """Make a file in each attempt and fail in the first ``times``."""
    attempt = current_execution().job.attempt
    add_file(f"{attempt} {name}", [f"attempt {attempt}"])
    if attempt <= times:
        raise ValueError("no")


@task
def make_sparse(size):
    with result_file("sparse.bin") as file:
        file.truncate(size)


@task
@policy(max_attempts=1)
def make_in_transaction():
    with transaction.atomic(), result_file("a.txt") as file:
        file.write(b"text")


@task
async def make_on_loop():
    with result_file("a.txt") as file:
        progress(1, 1, "written")
        file.write(b"text")


@task
def break_off():
    try:
        with result_file("half.csv") as file:
            file.write(b"half")
            raise ValueError("no")
    except ValueError:
        pass


made = []


def make(name, number):
    add_file(name, [f"{number}"])
    made.append(name)


@task
@policy(max_attempts=1)
def in_steps(fails):
    """Make a file in a step, and one after it. ``fails``: the job fails if it has not made a file named so before."""
    step("first", make, "step.txt", 1)
    is_first = fails not in made
    if fails:
        made.append(fails)
    if fails and is_first:
        add_file("dropped.txt", ["dropped"])
        raise ValueError("no")
    add_file("after.txt", ["after"])


@task
@policy(max_attempts=1)
def break_off_step():
    """The step does not return at first, and makes a file with another name then."""

    def make_one():
        made.append("call")
        add_file(f"{len(made)}.txt", [str(len(made))])
        if len(made) == 1:
            raise ValueError("no")

    step("one", make_one)


@task
async def pause_after_step():
    await astep("first", make, "step.txt", 1)
    await aadd_file("before.txt", ["before"])
    await apause("nap", timedelta(days=1))
    await aadd_file("after.txt", ["after"])


@task
@policy(max_attempts=2, retry_on=ValueError, backoff=0)
def make_many(count):
    for number in range(count):
        add_file(f"{number}.txt", [])
    if current_execution().job.attempt == 1:
        raise ValueError("no")
