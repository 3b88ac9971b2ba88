"""Tasks that make files."""

import csv
from datetime import timedelta

from notifications.api import apause, task
from notifications.contrib.files import aadd_file, add_file, result_file
from notifications.contrib.steps import astep


@task
def export(rows=2, name="orders.csv", keep_days=30, **options):
    with result_file(name, encoding="utf-8", keep=timedelta(days=keep_days), **options) as file:
        csv.writer(file).writerows([number, f"größe {number}"] for number in range(rows))
    return rows


@task
def export_several(names):
    for number, name in enumerate(names):
        add_file(name, [f"{number}"])


made = []


def make(name, number):
    add_file(name, [f"{number}"])
    made.append(name)


@task
async def pause_after_step():
    await astep("first", make, "step.txt", 1)
    await aadd_file("before.txt", ["before"])
    await apause("nap", timedelta(days=1))
    await aadd_file("after.txt", ["after"])
