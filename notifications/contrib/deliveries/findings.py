"""What ``doctor`` examines: whether the servers of channels answer, and devices that push services refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Info, Warning
from django.db.models import Q

from notifications.conf import settings
from notifications.contrib.deliveries import devices, outages, pushes, refusals
from notifications.contrib.deliveries.models import PushSubscription
from notifications.db import database
from notifications.extension import Check, hooks

#: Different answers of push services that one message names: those to most devices.
MAX_ANSWERS_SHOWN = 3


class OutageCheck(Check):
    """The server of a channel that has only one does not answer."""

    id = "channels"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        known = outages.read_all()
        for name in hooks.channels:
            channel = hooks.find_channel(name)
            outage = known.get(name)
            if not channel.server:
                continue
            label = str(channel.label)
            if outage is None or outage.suspended_until is None:
                yield Info(f"The {channel.server} answers, or no message was sent.", id=label)
                continue
            yield Warning(
                f"The {channel.server} has not answered {outage.timeouts} messages in a row. The others wait, and "
                "one a minute is tried.",
                hint="Check the address and the port of the server, and whether this machine reaches it. When it "
                "answers, all are sent.",
                obj={"timeouts": outage.timeouts},
                id=label,
            )


class RefusedDevicesCheck(Check):
    """Devices get no push messages because their push services refuse them, or will."""

    id = "devices"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        if not settings.WEB_PUSH:
            return
        rows = PushSubscription.objects.using(database())
        is_current = Q(key_hash__in=["", devices.hash_key(pushes.read_public_key())])
        outdated = rows.exclude(is_current).count()
        # The cause of the others is known: their key.
        refused = rows.filter(is_current).exclude(refused_status=0)
        counts = Counter(refused.values_list("refused_status", "refused_reason"))
        if not outdated and not counts:
            yield Info("No push service refuses messages.")
            return
        facts, causes = [], dict.fromkeys([refusals.ANOTHER_KEY] if outdated else [])
        for (status, reason), count in counts.most_common(MAX_ANSWERS_SHOWN):
            device = refused.filter(refused_status=status, refused_reason=reason).first()
            service = f" by {devices.service_of(device)}" if device else ""
            facts.append(f"{count} refused{service}: {status}{reason and f' {reason}'}")
            causes.setdefault(refusals.find_cause(status, reason))
        if outdated:
            facts.append(f"{outdated} subscribed with another key")
        yield Warning(
            f"Devices get no push messages: {'; '.join(facts)}.",
            hint=" ".join(refusals.REMEDIES[cause] for cause in causes),
            obj={"refused": counts.total(), "outdated": outdated},
        )


def make_checks() -> list[Check]:
    return [OutageCheck(), RefusedDevicesCheck()]
