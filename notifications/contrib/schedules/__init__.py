"""Schedules: periodic jobs. ``apps.py`` says what belongs to it."""

from notifications.contrib.schedules.api import (
    acancel_schedule,
    aschedule,
    aupdate_schedule,
    cancel_schedule,
    schedule,
    update_schedule,
)
from notifications.contrib.schedules.decorating import every
from notifications.contrib.schedules.errors import ScheduleGone, TooManySchedules

__all__ = [
    "ScheduleGone",
    "TooManySchedules",
    "acancel_schedule",
    "aschedule",
    "aupdate_schedule",
    "cancel_schedule",
    "every",
    "schedule",
    "update_schedule",
]
