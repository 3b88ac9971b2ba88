"""What the page and the API of preferences show: the categories that concern a user, and what is in force for each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext

from notifications.contrib.deliveries.categories import Choice, find_category
from notifications.contrib.deliveries.channels import BELL, label_of, list_channels
from notifications.contrib.deliveries.models import Delivery, Preference, Reader
from notifications.contrib.deliveries.preferences import (
    MAX_CATEGORIES,
    choice_in_force,
    read_choices,
    read_off_until,
)
from notifications.contrib.deliveries.rules import ALL_OTHERS, load_rules
from notifications.db import database
from notifications.extension import hooks
from notifications.inbox import load_categories
from notifications.models import Notification

#: Notifications of each partition of an inbox in which categories are looked for.
MAX_ROWS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What is in force for a category and a channel, and what can be chosen; nothing if it does not go by it."""

    channel: str
    label: str
    choice: str
    options: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceRow:
    """A category. ``channels`` are the choices in force by channel, of those by which it goes.

    ``off_until``
        Until when it is off by all of them; None: it is not, or for good.
    """

    key: str
    name: str
    description: str
    is_required: bool
    cells: list[Cell]
    off_until: datetime | None = None

    @property
    def channels(self) -> dict[str, str]:
        return {cell.channel: cell.choice for cell in self.cells if cell.options}


def shown_channels() -> list[str]:
    """Return the channels that the project uses: the bell, and those in ``NOTIFICATIONS["DELIVERY"]``."""
    used = load_rules().channels
    return [channel for channel in list_channels() if channel == BELL or channel in used]


def read_rows(user: Any) -> list[PreferenceRow]:
    """Return the rows of a user (key): declared categories in their order, then others that they have had, by name."""
    categories, rules = load_categories(), load_rules()
    declared, sort_by_name = categories.declared, categories.sort_by_name
    choices = read_choices([user])
    had = read_newest_categories(user)
    # Those for which the user has chosen something are never cut off.
    chosen = {key for _, key, _ in choices}
    others = sort_by_name({*rules.categories, *had} - {*declared, *chosen, ALL_OTHERS, ""})[:MAX_CATEGORIES]
    keys = [*declared, *sort_by_name({*chosen, *others} - {*declared, ""})]
    if rules.of(""):
        keys.append("")
    off_until = read_off_until(user)
    return [_row(user, key, choices, off_until.get(key)) for key in keys]


def read_newest_categories(user: Any) -> set[str]:
    """Return the categories of the newest notifications in the inbox of a user (key), which has two partitions."""
    rows = Notification.objects.using(database()).filter(user=user, archived_at=None).order_by("-raised")
    return {
        category
        for is_unread in (True, False)
        for category in rows.filter(read_at__isnull=is_unread).values_list("category", flat=True)[:MAX_ROWS]
    }


def _row(user: Any, key: str, choices: Any, off_until: datetime | None) -> PreferenceRow:
    category = find_category(key)
    used = {step.channel for step in load_rules().of(key)}
    cells = []
    for channel in shown_channels():
        # Without a category nothing can be muted.
        is_offered = key != "" if channel == BELL else channel in used or (user, key, channel) in choices
        options = [(value, str(Preference.Choice(value).label)) for value in Choice.of_channel(channel)]
        choice = choice_in_force(choices, user, key, channel)
        cells.append(
            Cell(
                channel=channel, label=label_of(channel), choice=choice, options=options if is_offered else []
            )
        )
    return PreferenceRow(
        key=key,
        name=str(category.name) if key else gettext("Everything else"),
        description=str(category.description),
        is_required=category.is_required,
        cells=cells,
        off_until=None if category.is_required else off_until,
    )


def has_other_channels() -> bool:
    """Return whether notifications go by a channel besides the bell."""
    return bool(hooks.channels.keys() & load_rules().channels)


def find_dead_addresses(user: Any, reader: Reader) -> list[tuple[str, str, str]]:
    """Return the channel, the address and a sentence for each address of a user at which nothing arrives any more.

    Calls code of the project, which says what their addresses are now.
    """
    return [
        (name, address, Delivery(channel=name).describe_reason("dead-address"))
        for name, address in reader.dead_addresses.items()
        # None: they could not be read, and the page offers to try it again.
        if (found := hooks.find_channel(name).addresses(user)) is None or address in found
    ]
