"""What ``NOTIFICATIONS["USER_SCHEDULES"]`` says: what users may have done, and the limits of stored schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from django.utils.translation import gettext

from notifications.conf import cached_until_changed, settings
from notifications.contrib.schedules.declarations import (
    NAME_PATTERN,
    ScheduleDeclaration,
    find_wrong_options,
    make_declaration,
)
from notifications.extension import WrongDeclaration
from notifications.validators import MAX_TITLE_LENGTH

#: The options of an offer, besides its title.
OFFER_KEYS = ("task", "args", "kwargs", "queue")
EXAMPLE = (
    '{"offers": {"sales": {"title": "Send me the sales report", "task": "shop.tasks.report"}}, "per_user": 20, '
    '"max_failures": 5}'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSchedules:
    """The options of ``USER_SCHEDULES``.

    ``offers``
        What users may have done periodically, by names, which are stored: a title and an entry of ``SCHEDULES`` without
        its times. None: there is no page of schedules.
    ``per_user``
        Schedules that one user may own.
    ``max_failures``
        Runs in a row after whose failure a stored schedule pauses itself.
    """

    offers: Mapping[str, Mapping[str, Any]] | None = None
    per_user: int = 50
    max_failures: int = 5


@cached_until_changed("NOTIFICATIONS")
def read_settings() -> UserSchedules:
    """Return what ``USER_SCHEDULES`` says, with the offers that are valid; the defaults if it is wrong."""
    try:
        options = dict(settings.USER_SCHEDULES)
    except ImproperlyConfigured:  # which another check reports
        return UserSchedules()
    if "offers" in options:
        wrong = {name for name, _ in _find_wrong(options["offers"])}
        options["offers"] = {name: each for name, each in options["offers"].items() if name not in wrong}
    return UserSchedules(**options)


def list_links(page: str) -> Sequence[tuple[str, str]]:
    """Return the link to the schedules of the user, of the inbox and of preferences, if that page is open.

    See ``Extension.page_links()``.
    """
    is_shown = page in ("inbox", "preferences") and read_settings().offers is not None
    return [(gettext("My schedules"), reverse("notifications:schedules"))] if is_shown else []


def find_offers() -> Mapping[str, Mapping[str, Any]]:
    """Return the valid offers by name."""
    return read_settings().offers or {}


def declare_offer(name: str) -> ScheduleDeclaration:
    """Return an offer as the declaration of a schedule. Its times mean nothing."""
    return make_declaration(name, {**_options(find_offers()[name]), "cron": "0 0 * * *"})


def find_wrong_offers() -> list[WrongDeclaration]:
    """Return what is wrong with offers. Imports no task."""
    try:
        return [wrong for _, wrong in _find_wrong(settings.USER_SCHEDULES.get("offers", {}))]
    except ImproperlyConfigured:
        return []


def label_of_offer(name: str) -> str:
    return f"NOTIFICATIONS['USER_SCHEDULES']['offers'][{name!r}]"


def _find_wrong(offers: Mapping[str, Any]) -> Iterator[tuple[Any, WrongDeclaration]]:
    for name, offer in offers.items():
        label = label_of_offer(name)
        is_named = isinstance(name, str) and NAME_PATTERN.fullmatch(name)
        if not (
            is_named
            and isinstance(offer, dict)
            and offer.keys() <= {"title", *OFFER_KEYS}
            and 1 <= len(str(offer.get("title") or "")) <= MAX_TITLE_LENGTH
        ):
            message = (
                f"{label} is no offer: a name like those of schedules, with a task, and a title of at most "
                f"{MAX_TITLE_LENGTH} characters."
            )
            yield name, WrongDeclaration("notifications.W020", message, f"Write {EXAMPLE}.")
            continue
        for id, message, hint in find_wrong_options({**_options(offer), "cron": "0 0 * * *"}):
            yield name, WrongDeclaration(id, f"{label}: {message}", hint)


def _options(offer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in offer.items() if key in OFFER_KEYS}
