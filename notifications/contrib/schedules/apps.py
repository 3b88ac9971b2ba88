"""Schedules: tasks that are enqueued periodically, as the project declares, or as people choose while the site runs.

models         a schedule, whose row has the next tick, and ticks: what became of each moment at which it was due
checks         the system check of the declarations
timing         when a schedule is due: by a cron expression or at an interval
declarations   reads and validates the declarations; what is wrong is a system check
decorating     ``@every``, which declares a schedule at its task
stored         stored schedules, whose rows are the declarations: how rounds read them
api, drafts    the verbs that make, change and delete them, with ``errors``
offers         what users may have done periodically, and the limits of stored schedules
tasks          the tasks that they name
users          who owns the jobs, and who is notified of problems
ticks          enqueues one job for each tick that is due, whatever the number of processes
undeclared     which schedules some process still declares, and the ticks of the others
enqueueing     inserts the job and the tick
runs           records how the jobs ended, and which problems begin or end
urls, views    the page of the schedules of a user, with ``forms`` and ``texts``
problems       what is announced of these problems, and what ``doctor`` and alerts find
operating      pause, resume and run a schedule by hand; ``admin`` and ``commands`` offer it
admin_pages, admin_forms  the pages on which staff make and change stored schedules
operations     what operators see of schedules
metrics        for Prometheus

A job is enqueued in the transaction that advances the row of its schedule and inserts the row of the tick, which is
unique. So any number of processes may run ``ticks.run_round()``, and no leader is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, Setting, import_later


def _is_valid(value: dict[str, Any]) -> bool:
    numbers = [value.get(name, 1) for name in ("per_user", "max_failures")]
    return (
        value.keys() <= {"offers", "per_user", "max_failures"}
        and all(type(number) is int and number >= 1 for number in numbers)
        and isinstance(value.get("offers", {}), dict)
    )


class Schedules(Extension):
    name = "notifications.contrib.schedules"
    label = "notifications_schedules"
    verbose_name = _("Schedules")
    settings: ClassVar[Mapping[str, Setting]] = {
        "SCHEDULES": Setting({}),
        "USER_SCHEDULES": Setting({}, is_valid=_is_valid, rule="a dict of offers, per_user and max_failures"),
    }
    tables: ClassVar[Mapping[str, str]] = {
        "notifications_schedules.Tick.recorded_at": "age",
        "notifications_schedules.Schedule.user_id": "user",
        "notifications_schedules.Tick.schedule_id": "notifications_schedules.Schedule",
    }
    subcommands: ClassVar[Mapping[str, str]] = {
        "schedules": "notifications.contrib.schedules.commands.SchedulesCommand"
    }

    def ready(self) -> None:
        from notifications.contrib.schedules import checks  # noqa: F401  (the import registers it)

    page_links = import_later("offers.list_links")
    duties = import_later("ticks.make_duties")
    checks = import_later("problems.make_checks")
