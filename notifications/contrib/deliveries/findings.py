"""What ``doctor`` examines: whether the servers of channels answer, and devices that push services refuse."""

from __future__ import annotations

from collections.abc import Iterator

from notifications.conf import settings
from notifications.contrib.deliveries import devices, outages, push_views
from notifications.contrib.deliveries.models import PushSubscription
from notifications.db import database
from notifications.extension import find_channel, hooks
from notifications.management import OK, WARNING, Finding


def find_outages(timeout: float) -> Iterator[Finding]:
    """Yield whether the server of each channel that has only one has answered."""
    known = outages.read_all()
    for name in hooks.channels:
        channel = find_channel(name)
        outage = known.get(name)
        if not channel.server:
            continue
        if outage is None or outage.suspended_until is None:
            message = f"The {channel.server} answers, or no message was sent."
            yield Finding(str(channel.label), OK, message)
            continue
        yield Finding(
            str(channel.label),
            WARNING,
            f"The {channel.server} has not answered {outage.timeouts} messages in a row. The others wait, and "
            "one a minute is tried.",
            "Check the address and the port of the server, and whether this machine reaches it. When it "
            "answers, all are sent.",
            {"timeouts": outage.timeouts},
        )


def find_refused_devices(timeout: float) -> Iterator[Finding]:
    """Yield how many devices get no push messages because their push services refuse them, or will."""
    if not settings.WEB_PUSH:
        return
    rows = PushSubscription.objects.using(database())
    key_hash = devices.hash_key(push_views.read_public_key())
    outdated = rows.exclude(key_hash__in=["", key_hash]).count()
    refused = rows.exclude(refused_status=0).count()
    if not outdated and not refused:
        yield Finding("devices", OK, "No push service refuses messages.")
        return
    yield Finding(
        "devices",
        WARNING,
        f"Push services have refused messages to {refused} devices, and {outdated} have subscribed with another key.",
        "Set the earlier private_key of NOTIFICATIONS['WEB_PUSH'] again if it is known. Otherwise each browser "
        "subscribes anew when its user opens the page of devices.",
        {"refused": refused, "outdated": outdated},
    )
