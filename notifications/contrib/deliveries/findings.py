"""What ``doctor`` examines: whether the servers of channels answer, and devices that push services refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Info, Warning

from notifications.conf import settings
from notifications.contrib.deliveries import devices, outages, pushes
from notifications.contrib.deliveries.models import PushSubscription
from notifications.db import database
from notifications.extension import hooks
from notifications.management import register


@register("processes", "channels")
def check_outages(**options: Any) -> Iterator[CheckMessage]:
    """Check whether the server of each channel that has only one has answered."""
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


@register("processes", "devices")
def check_refused_devices(**options: Any) -> Iterator[CheckMessage]:
    """Check whether devices get no push messages because their push services refuse them, or will."""
    if not settings.WEB_PUSH:
        return
    rows = PushSubscription.objects.using(database())
    key_hash = devices.hash_key(pushes.read_public_key())
    outdated = rows.exclude(key_hash__in=["", key_hash]).count()
    refused = rows.exclude(refused_status=0).count()
    if not outdated and not refused:
        yield Info("No push service refuses messages.")
        return
    yield Warning(
        f"Push services have refused messages to {refused} devices, and {outdated} have subscribed with another key.",
        hint="Set the earlier private_key of NOTIFICATIONS['WEB_PUSH'] again if it is known. Otherwise each browser "
        "subscribes anew when its user opens the page of devices.",
        obj={"refused": refused, "outdated": outdated},
    )
