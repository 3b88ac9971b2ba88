"""Steps: what calls inside tasks have returned, so that no later attempt makes them again."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.times import MomentField

require("notifications.contrib.steps")


class Step(models.Model):
    """The result of a step of a job, stored once. It stays until the job is pruned, or retried from its start."""

    job = models.UUIDField(_("job"))
    name = models.CharField(_("name"), max_length=200)
    #: JSON of at most 1 MiB.
    result = models.TextField(_("result"))
    #: The number of the attempt that stored it.
    attempt = models.PositiveIntegerField(_("attempt"))
    started_at = MomentField(_("started"))
    ended_at = MomentField(_("ended"))

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="notifications_step_name")]

    def __str__(self) -> str:
        return self.name


class UnfinishedStep(models.Model):
    """A call of a step that has stored no result: it runs, has raised, or its attempt has ended without it.

    One that runs is stored only if it takes long enough to be seen, and deleted when its result is stored.
    """

    job = models.UUIDField(_("job"))
    name = models.CharField(_("name"), max_length=200)
    attempt = models.PositiveIntegerField(_("attempt"))
    #: That of the claim that has made the call: a call of an earlier one does not run any more.
    fence = models.BigIntegerField()
    started_at = MomentField(_("started"))
    #: When it raised, or was cancelled.
    ended_at = MomentField(_("ended"), null=True)

    class Meta:
        verbose_name = _("unfinished step")
        verbose_name_plural = _("unfinished steps")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["job", "attempt", "name"], name="notifications_step_call")
        ]

    def __str__(self) -> str:
        return self.name
