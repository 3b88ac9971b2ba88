"""The questions of jobs: rows of the core's table of waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.models import Wait

require("notifications.contrib.questions")


class AskedQuestionManager(models.Manager["AskedQuestion"]):
    """Finds the waits that are questions."""

    def get_queryset(self) -> models.QuerySet[AskedQuestion]:
        return super().get_queryset().filter(kind="question")


class AskedQuestion(Wait):
    """A question that a job waits for."""

    objects = AskedQuestionManager()

    #: Not stored: the notifications of a new question.
    notifications: Sequence[Any] = ()

    class Meta:
        proxy = True
        verbose_name = _("question")
        verbose_name_plural = _("questions")
        default_permissions = ()
        permissions = [("answer_question", _("Can answer the questions of all jobs"))]

    def begin(self, now: datetime) -> None:
        super().begin(now)
        self.remind_at = self.next_reminder(now)

    @property
    def addressees(self) -> dict[str, Any]:
        """Whom it asks, as ``addressees.describe_asked()`` returns it. It does not change."""
        addressees: dict[str, Any] = json.loads(self.details)["asked"]
        return addressees

    def next_reminder(self, now: datetime) -> datetime | None:
        """Return when those who are asked are reminded after ``now``, None for never."""
        times = (
            self.created_at + timedelta(seconds=after) for after in json.loads(self.details).get("remind", ())
        )
        return next((time for time in times if time > now), None)
