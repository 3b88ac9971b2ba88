"""What the verbs of stored schedules raise."""

from __future__ import annotations

from django.utils.translation import gettext as _

from notifications.exceptions import NotificationsError


class TooManySchedules(NotificationsError):
    """The user owns as many schedules as ``NOTIFICATIONS["USER_SCHEDULES"]["per_user"]`` allows."""

    def __init__(self, limit: int) -> None:
        text = _("There are {limit} schedules already, as many as one user may have. Delete one of them.")
        super().__init__(text.format(limit=limit))


class ScheduleGone(NotificationsError):
    """The schedule does not exist any more."""

    def __init__(self) -> None:
        super().__init__(_("This schedule does not exist any more. It was deleted."))
