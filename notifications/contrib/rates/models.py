"""The state of the limits."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.times import MomentField

require("notifications.contrib.rates")


class Limit(models.Model):
    """What one key of a rate has used: the state of the generic cell rate algorithm (ITU-T I.371, annex A).

    ``busy_until``
        Microseconds since 1970 by the database's clock: when all that was used is paid off, an interval for each. The
        theoretical arrival time of the algorithm.
    ``token_interval``
        Microseconds for each token in ``busy_until``, by the rate that was declared then.
    ``closed_until``
        Microseconds: until when the partner has asked to be left alone. 0: it has not.
    ``used``
        Since the row was inserted.
    ``window_at``, ``window_used``
        Microseconds: when the minute, hour or day of the rate has begun in which it was last used, and what was used in
        it. Windows do not overlap, and begin with a use. Only people read them.
    """

    key = models.CharField(_("key"), max_length=200, primary_key=True)
    name = models.CharField(_("rate"), max_length=50)
    busy_until = models.BigIntegerField(default=0)
    token_interval = models.BigIntegerField(default=0)
    closed_until = models.BigIntegerField(default=0)
    used = models.BigIntegerField(_("used"), default=0)
    window_at = models.BigIntegerField(default=0)
    window_used = models.BigIntegerField(default=0)
    #: When it was last used. A row that was not for as long as ``RETENTION`` is deleted.
    used_at = MomentField(_("last used"), db_index=True)
    #: The header of a response that has corrected it last, and when.
    corrected_by = models.CharField(_("corrected by"), max_length=200, blank=True, default="")
    corrected_at = MomentField(_("corrected"), null=True, blank=True)

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.key
