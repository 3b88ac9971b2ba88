"""Notify the readers of what is wrong, of alerts and problems of schedules for example, and of its end.

Processes that find or end a problem only write its row. Announcers compare these rows with the state that each reader
was last notified of, and notify once for each difference, however often the state has changed in between.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Count
from django.utils import translation

from notifications.db import project_code
from notifications.db.transactions import database
from notifications.extension import Topic, hooks
from notifications.jobs.notifying import create_chunk
from notifications.jobs.reader_languages import read_site_languages
from notifications.models import AnnouncedState, Job
from notifications.streams import building

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds of a process.
ROUND_INTERVAL_SECONDS = 5.0
#: Seconds after which the readers of a topic are read again although nothing has changed: there may be others now.
READERS_INTERVAL_SECONDS = 60.0
#: The newest jobs of a reader that are read at most.
MAX_JOBS_READ = 20

#: The topics that are being announced in this process. Code of the project that looks up the readers of one may never
#: return: the next round leaves it out, so that it silences no other topic.
_being_announced: set[str] = set()


class Announcer:
    """Announces what has changed, once in each round. Any number of processes may run rounds at the same time.

    It calls code of the project: managers of users, authentication backends, receivers of signals. So it runs on a
    thread that neither records nor pushes, and on which nothing else waits.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()
        self._read_readers_at = 0.0

    def run_round(self) -> None:
        """Notify the readers of all topics that have changed. Raises ``django.db.Error``."""
        rows = AnnouncedState.objects.using(database()).order_by("topic", "state")
        announced = list(rows.values_list("topic", "state").annotate(Count("id")))
        states: dict[str, set[str]] = defaultdict(set)
        for topic, state, _ in announced:
            states[topic].add(state)
        topics = list(chain.from_iterable(check.topics(dict(states)) for check in hooks.read_checks()))
        seen = (announced, [(topic.key, topic.state) for topic in topics])
        if not topics or (seen == self._last and time.monotonic() < self._read_readers_at):
            return
        # After an error all topics are compared again in the next round.
        if announce(topics):
            self._last, self._read_readers_at = seen, time.monotonic() + READERS_INTERVAL_SECONDS


def announce(topics: Iterable[Topic]) -> bool:
    """Notify the readers of these topics. Return whether none failed, which is logged.

    Raises an error that means that the database is unavailable: see ``is_unavailable()``.
    """
    is_done = True
    for topic in topics:
        if topic.key in _being_announced:
            continue
        _being_announced.add(topic.key)
        try:
            with project_code.catching() as caught:
                _announce_topic(topic)
        finally:
            _being_announced.discard(topic.key)
        if caught.error:
            logger.error("Could not announce, which is tried again: %s", topic.key, exc_info=caught.error)
            is_done = False
    return is_done


def _announce_topic(topic: Topic) -> None:
    rows = AnnouncedState.objects.using(database()).filter(topic=topic.key)
    announced = dict(rows.values_list("user_id", "state"))
    for reader in topic.read_readers():
        if (before := announced.pop(reader, "")) != topic.state:
            _notify(topic, reader, before)
    if announced:  # they are no readers any more
        rows.filter(user_id__in=list(announced)).delete()


def _notify(topic: Topic, reader: Any, before: str) -> None:
    """Store what a reader is notified of, and notify, in one transaction for each reader: receivers may be slow."""
    with translation.override(_language_of(reader)):
        fields = topic.describe(before)
    notification = building.build_notification(reader, key=topic.key, **fields)
    rows = AnnouncedState.objects.using(database())

    def claim() -> bool:
        if not before:
            rows.create(topic=topic.key, user_id=reader, state=topic.state)
            return True
        same = rows.filter(topic=topic.key, user_id=reader, state=before)
        return bool(same.update(state=topic.state) if topic.state else same.delete()[0])

    try:
        create_chunk([notification], more_follows=True, claim=claim)
    except IntegrityError:  # another process has notified the reader
        logger.debug("Announced by another process: %s", topic.key)


def _language_of(user: Any) -> str:
    """Return the language of a user (key): that in which they read, or else in which they last enqueued a job.

    ``LANGUAGE_CODE`` if neither is known.
    """
    if known := read_site_languages([user]).get(user):
        return known
    rows = Job.objects.using(database()).filter(user=user).order_by("-created_at", "-id")
    for language, schedule in rows.values_list("language", "schedule")[:MAX_JOBS_READ]:
        if language and not schedule:  # a process enqueues the jobs of schedules
            return str(language)
    return str(settings.LANGUAGE_CODE)
