"""What schedules say, validated: entries of ``NOTIFICATIONS["SCHEDULES"]``, and those that ``@every`` makes.

A wrong declaration does not keep the others from running: it is reported by a system check and logged. The options of
stored schedules are validated by the same rules, when they are stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from notifications import validators
from notifications.compat import normalize_json
from notifications.conf import cached_until_changed, settings
from notifications.contrib.schedules import timing
from notifications.extension import WrongDeclaration

KEYS = ("task", "cron", "every", "timezone", "args", "kwargs", "owner", "group", "queue", "overlap", "grace")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
OVERLAPS = ("skip", "allow")
DEFAULT_GRACE_SECONDS = 3600
MAX_GRACE_SECONDS = 366 * 24 * 3600

EXAMPLE = (
    '{"nightly-report": {"task": "shop.tasks.report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}}'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleDeclaration:
    """A valid entry of ``NOTIFICATIONS["SCHEDULES"]``, or what a stored schedule says.

    ``owner``, ``group``
        The name of a user, by which it logs in, or of a group; "" if there is none.
    ``user``
        The owner of a stored schedule, who has no name here.
    ``queue``
        "" for that of the task.
    """

    name: str
    task_path: str
    timing: timing.Timing
    args: list[Any]
    kwargs: dict[str, Any]
    owner: str
    group: str
    queue: str
    allows_overlap: bool
    grace: timedelta
    user: Any = None


#: The options of the schedules that ``@every`` has declared, by name, as entries of ``SCHEDULES``.
_decorated: dict[str, dict[str, Any]] = {}


def declare(name: str, options: dict[str, Any]) -> None:
    """Declare a schedule in code. An entry of the settings with its name takes its place."""
    _decorated[name] = options
    _read.cache_clear()  # type: ignore[attr-defined]


def declared_schedules() -> dict[str, ScheduleDeclaration]:
    """Return the valid declarations by name."""
    return _read()[0]


def wrong_declarations() -> list[WrongDeclaration]:
    """Return what is wrong with the other declarations. The tasks are not imported for it."""
    return _read()[1]


def _of_settings() -> dict[str, Any]:
    try:
        return dict(settings.SCHEDULES)
    except ImproperlyConfigured:  # not a dict, which another check reports
        return {}


def label_of(name: str) -> str:
    """Return where a schedule is declared, as messages name it."""
    return f"@every of {name}" if name not in _of_settings() else f"NOTIFICATIONS['SCHEDULES'][{name!r}]"


@cached_until_changed("NOTIFICATIONS", "TIME_ZONE")
def _read() -> tuple[dict[str, ScheduleDeclaration], list[WrongDeclaration]]:
    valid: dict[str, ScheduleDeclaration] = {}
    wrong: list[WrongDeclaration] = []
    for name, options in {**_decorated, **_of_settings()}.items():
        problems = list(_problems(name, options))
        wrong += problems
        if not problems:
            valid[name] = make_declaration(name, options)
    return valid, wrong


def make_declaration(name: str, options: Mapping[str, Any], user: Any = None) -> ScheduleDeclaration:
    """Return the declaration of a schedule with valid options."""
    return ScheduleDeclaration(
        name=name,
        task_path=options["task"],
        timing=_timing(options),
        args=normalize_json(list(options.get("args", ()))),
        kwargs=normalize_json(dict(options.get("kwargs", {}))),
        owner=options.get("owner", ""),
        group=options.get("group", ""),
        queue=options.get("queue", ""),
        allows_overlap=options.get("overlap", "skip") == "allow",
        grace=timedelta(seconds=options.get("grace", DEFAULT_GRACE_SECONDS)),
        user=user,
    )


def _timing(options: Mapping[str, Any]) -> timing.Timing:
    if "every" in options:
        return timing.Timing(every=options["every"])
    zone = options.get("timezone") or timezone.get_default_timezone_name()
    return timing.Timing(cron=" ".join(options["cron"].upper().split()), zone=zone)


def _problems(name: Any, options: Any) -> Iterator[WrongDeclaration]:
    label = label_of(name)
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        yield WrongDeclaration(
            "notifications.W020",
            f"{label}: the name of a schedule has 1 to 100 letters, digits and . : _ - and begins with a letter or "
            "digit.",
            'Write a name like "nightly-report".',
        )
    elif not isinstance(options, dict):
        yield WrongDeclaration("notifications.W020", f"{label} is not a dict.", f"Write {EXAMPLE}.")
    else:
        if unknown := [key for key in options if key not in KEYS]:
            yield WrongDeclaration(
                "notifications.W020",
                f"{label} has an unknown key {unknown[0]!r}.",
                f"Known keys: {', '.join(KEYS)}.",
            )
        for id, message, hint in find_wrong_options(options):
            yield WrongDeclaration(id, f"{label}: {message}", hint)


Problems = Iterator[tuple[str, str, str]]


def find_wrong_options(options: Mapping[str, Any]) -> Problems:
    """Yield what is wrong with the options of a schedule: the id of a system check, the message and the remedy."""
    for check in (
        _task_problems,
        _timing_problems,
        _argument_problems,
        _reader_problems,
        _other_problems,
    ):
        yield from check(options)


def _task_problems(options: Mapping[str, Any]) -> Problems:
    path = options.get("task")
    if not isinstance(path, str) or not re.fullmatch(r"\w+(\.\w+)+", path) or len(path) > 500:
        yield (
            "notifications.W021",
            f"task is {path!r}.",
            'Write the dotted path of a task: "task": "shop.tasks.report".',
        )


def _timing_problems(options: Mapping[str, Any]) -> Problems:
    if ("cron" in options) == ("every" in options):
        found = "both cron and every" if "cron" in options else "neither cron nor every"
        yield (
            "notifications.W022",
            f"it has {found}.",
            'Write either "cron": "0 3 * * *" or "every": timedelta(minutes=10).',
        )
    elif "every" in options:
        every = options["every"]
        if not isinstance(every, timedelta) or not timing.MIN_INTERVAL <= every <= timing.MAX_INTERVAL:
            yield (
                "notifications.W022",
                f"every is {every!r}.",
                f"Write a timedelta of {timing.MIN_INTERVAL.total_seconds():g} second to "
                f"{timing.MAX_INTERVAL.days} days.",
            )
        if "timezone" in options:
            yield (
                "notifications.W022",
                "timezone has no effect with every.",
                "Remove it, or write cron in place of every.",
            )
    else:
        yield from _cron_problems(options["cron"], options.get("timezone"))


def _cron_problems(cron: Any, zone: Any) -> Problems:
    try:
        ZoneInfo(timezone.get_default_timezone_name() if zone is None else zone)
    except (KeyError, ValueError, TypeError, OSError):  # an unknown name; a path, a folder or another type
        yield (
            "notifications.W022",
            f"timezone is {zone!r}, which is unknown.",
            'Write a name of the IANA database, such as "Europe/Berlin". Where the system has no time zones, install '
            "the package tzdata.",
        )
    hint = 'Write five fields: minute, hour, day of month, month, day of week. "0 3 * * *" is 3 o\'clock each night.'
    if not isinstance(cron, str) or len(cron) > timing.MAX_CRON_LENGTH or len(cron.split()) != 5:
        yield "notifications.W022", f"cron is {str(cron)[:100]!r}, which does not have five fields.", hint
        return
    try:
        first = timing.Timing(cron=cron, zone="UTC").next_tick(datetime.now(UTC))
    except (timing.CronSimError, AssertionError) as exc:
        yield "notifications.W022", f"cron is {cron!r}: {exc or 'it cannot be read'}.", hint
    else:
        if first is None:
            yield "notifications.W022", f"cron is {cron!r}, which is never due.", hint


def _argument_problems(options: Mapping[str, Any]) -> Problems:
    for key, kinds, what, limit in (
        ("args", (list, tuple), "a list", "The arguments"),
        ("kwargs", (dict,), "a dict with strings as keys", "The keyword arguments"),
    ):
        value = options.get(key, kinds[0]())
        if not isinstance(value, kinds) or (key == "kwargs" and not all(isinstance(k, str) for k in value)):
            yield "notifications.W023", f"{key} is {value!r}.", f"Write {what}."
            continue
        try:
            validators.json_text(limit, normalize_json(kinds[0](value)))
        except (TypeError, ValueError, RecursionError) as exc:
            yield (
                "notifications.W023",
                f"{key} is not JSON: {exc}",
                "Use strings, numbers, booleans, None, lists and dicts.",
            )


def _reader_problems(options: Mapping[str, Any]) -> Problems:
    for key, what in (("owner", "the name by which a user logs in"), ("group", "the name of a group")):
        value = options.get(key, "-")
        if not isinstance(value, str) or not 1 <= len(value) <= 255:
            yield "notifications.W024", f"{key} is {value!r}.", f"Write {what}, a string."
    if "owner" in options and "group" in options:
        yield (
            "notifications.W024",
            "it has both owner and group.",
            "Keep owner if the jobs work for one user, or group if several people should learn of failures.",
        )


def _other_problems(options: Mapping[str, Any]) -> Problems:
    queue, overlap, grace = (
        options.get(key, default)
        for key, default in (("queue", "-"), ("overlap", "skip"), ("grace", DEFAULT_GRACE_SECONDS))
    )
    if not isinstance(queue, str) or not 1 <= len(queue) <= validators.MAX_NAME_LENGTH:
        yield (
            "notifications.W025",
            f"queue is {queue!r}.",
            f"Write a name of at most {validators.MAX_NAME_LENGTH} characters.",
        )
    if overlap not in OVERLAPS:
        yield "notifications.W025", f"overlap is {overlap!r}.", 'Write "skip" (the default) or "allow".'
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not 1 <= grace <= MAX_GRACE_SECONDS:
        yield (
            "notifications.W025",
            f"grace is {grace!r}.",
            f"Write a number of seconds from 1 to {MAX_GRACE_SECONDS:,}.",
        )
