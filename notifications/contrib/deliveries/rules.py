"""Make the deliveries of notifications, which are inserted with these.

``NOTIFICATIONS["DELIVERY"]`` has the steps of each category: a channel, and after how long what is still open goes by
it. When a delivery is due, ``sending.py`` decides whether it is sent.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications.conf import cached_until_changed, settings
from notifications.contrib.deliveries.categories import Choice, find_category, find_wrong_defaults
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.preferences import choice_in_force, read_choices
from notifications.db import database, lock_query, new_row
from notifications.extension import RecordedTransaction, WrongDeclaration, hooks
from notifications.inbox import load_categories
from notifications.models import Notification

logger = logging.getLogger("notifications")

State: Any = Delivery.State
#: Why a delivery is not sent while its notification is as it is, which changes when this is raised again.
REASONS_OF_NOTIFICATION = {Delivery.Reason.SEEN, Delivery.Reason.READ, Delivery.Reason.ARCHIVED}

#: The key of the steps of categories that have none of their own.
ALL_OTHERS = "*"
EXAMPLE = '{"export": [{"email": 600}], "*": []}'


class Rules:
    """The valid steps by category.

    ``wrong``
        What is wrong with the others.
    """

    def __init__(self, declared: Mapping[Any, Any]) -> None:
        self._steps: dict[str, Sequence[Any]] = {}
        self.wrong: list[WrongDeclaration] = []
        for category, value in declared.items():
            try:
                if not isinstance(category, str):
                    raise ValueError("A category is a text.")
                self._steps[category] = hooks.read_delivery_steps(value)
            except ValueError as exc:
                message = f"NOTIFICATIONS['DELIVERY'][{category!r}]: {exc}"
                self.wrong.append(WrongDeclaration("notifications.W029", message, f"Write {EXAMPLE}."))

    def of(self, category: str) -> Sequence[Any]:
        """Return the steps of a category."""
        steps = self._steps.get(category)
        return self._steps.get(ALL_OTHERS, ()) if steps is None else steps

    @property
    def categories(self) -> list[str]:
        """The categories that have steps of their own."""
        return [category for category in self._steps if category != ALL_OTHERS]

    @property
    def channels(self) -> set[str]:
        """The channels of all steps."""
        return {step.channel for steps in self._steps.values() for step in steps}

    def __bool__(self) -> bool:
        return any(self._steps.values())


def read_rules() -> Rules:
    """Read the setting."""
    try:
        return Rules(settings.DELIVERY)
    except ImproperlyConfigured:  # not a dict, which another check reports
        return Rules({})


def find_wrong_declarations() -> Iterator[WrongDeclaration]:
    """Yield W029: wrong steps, W031: wrong categories, W030: no address of the site, and what channels find wrong."""
    rules = read_rules()
    yield from (*rules.wrong, *find_wrong_defaults())
    with suppress(ImproperlyConfigured):  # which another check reports
        if rules and not settings.SITE_URL:
            yield WrongDeclaration(
                "notifications.W030",
                "NOTIFICATIONS['DELIVERY'] has steps, but NOTIFICATIONS['SITE_URL'] is empty: nothing is sent.",
                "Write the address of the site, to which links lead: 'https://example.com'.",
            )
    for name in hooks.channels:
        yield from hooks.find_channel(name).find_wrong(is_used=name in rules.channels)


@cached_until_changed("NOTIFICATIONS", "INSTALLED_APPS")
def load_rules() -> Rules:
    """Return the rules. The first call in a process logs what is wrong with them and with defaults of categories.

    It imports the channels that these name.
    """
    rules = read_rules()
    for wrong in rules.wrong:
        logger.error("Notifications are not delivered: %s %s", wrong.message, wrong.hint)
    for category in load_categories().declared:
        find_category(category)
    return rules


def prepare() -> None:
    """Read the rules before a transaction needs them."""
    load_rules()


def build_deliveries(rows: Sequence[Notification], tx: RecordedTransaction) -> list[Delivery]:
    """Return the deliveries of notifications that this transaction inserts, which are to be inserted with them.

    Of those that their users have muted only by channels that these have not switched off too.
    """
    rules = load_rules()
    if not rules and not any(row.steps for row in rows):
        return []
    muted = [row for row in rows if row.is_muted]
    categories = {row.category for row in muted}
    choices = read_choices({row.user_id for row in muted}, categories) if muted else {}

    def is_chosen(row: Notification, channel: str) -> bool:
        return not row.is_muted or choice_in_force(choices, row.user_id, row.category, channel) != Choice.OFF

    return [
        new_row(
            Delivery,
            notification=row.id,
            user_id=row.user_id,
            channel=step.channel,
            language=tx.language_of(row),
            due_at=row.created_at + step.delay,
            delay_seconds=int(step.delay.total_seconds()),
            is_explicit=row.steps is not None,
        )
        for row in rows
        for step in (rules.of(row.category) if row.steps is None else row.steps)
        if is_chosen(row, step.channel)
    ]


def reopen_deliveries(rows: Sequence[Notification], tx: RecordedTransaction) -> tuple[()]:
    """Have those deliveries decided anew that were not sent because of the state of these notifications.

    Their delays begin now. A process that decides one of them at this moment is waited for. One that stays archived is
    not sent.
    """
    assert tx.now is not None
    found = (
        Delivery.objects.using(database()).filter(notification__in=[row.id for row in rows]).order_by("id")
    )
    # What another process has just skipped was not skipped in the snapshot of this statement.
    locked = lock_query(found, skip_locked=False)
    skipped = [row for row in locked if row.state == State.SKIPPED and not row.may_have_arrived]
    by_delay = defaultdict(list)
    for row in skipped:
        if row.reason in REASONS_OF_NOTIFICATION:
            by_delay[row.delay_seconds].append(row.id)
    for seconds, delayed in by_delay.items():
        Delivery.objects.using(database()).filter(id__in=delayed).update(
            state=State.PENDING,
            reason="",
            error="",
            job=None,
            ended_at=None,
            due_at=tx.now + timedelta(seconds=seconds),
        )
    return ()
