"""Reports, their calls, and the requests that count towards the rate limit."""

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class Report(models.Model):
    """A list of URLs that a user wants to be called."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        related_name="reports",
        db_index=False,
        verbose_name=_("owner"),
    )
    title = models.CharField(_("title"), max_length=200)
    urls = models.JSONField(_("URLs"), default=list)
    size = models.PositiveIntegerField(_("number of URLs"))
    job_id = models.UUIDField(_("job"), null=True, blank=True, editable=False)
    #: The job that asks whether the report is to be public, the latest.
    publication_id = models.UUIDField(null=True, blank=True, editable=False)
    #: In the link of the public page. None: the report is private.
    public_token = models.CharField(max_length=32, null=True, unique=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("report")
        verbose_name_plural = _("reports")
        indexes = [
            models.Index(fields=["owner", "-id"], name="asyncsite_report_owner"),
            models.Index(fields=["created_at"], name="asyncsite_report_created"),
        ]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("report", args=[self.pk])


class Call(models.Model):
    """The outcome of one URL of a report. Each position is recorded once; a later insert is ignored."""

    class Outcome(models.TextChoices):
        OK = "ok", pgettext_lazy("outcome of a call", "passed")
        FAILED = "failed", pgettext_lazy("outcome of a call", "failed")
        REFUSED = "refused", pgettext_lazy("outcome of a call", "refused")

    report = models.ForeignKey(
        Report, models.CASCADE, related_name="calls", db_index=False, verbose_name=_("report")
    )
    position = models.PositiveIntegerField(
        _("position"), help_text=_("Place of the URL in the report, from 1.")
    )
    url = models.CharField(_("URL"), max_length=2000)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome)
    status = models.PositiveSmallIntegerField(_("status"), null=True, blank=True)
    elapsed_ms = models.PositiveIntegerField(_("response time (ms)"), null=True, blank=True)
    bytes = models.PositiveBigIntegerField(_("bytes"), null=True, blank=True)
    content_type = models.CharField(_("content type"), max_length=200, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("call")
        verbose_name_plural = _("calls")
        ordering = ["report", "position"]
        constraints = [
            models.UniqueConstraint(fields=["report", "position"], name="asyncsite_call_once"),
        ]

    def __str__(self):
        return f"{self.url}: {self.get_outcome_display()}"


class RateLimitEntry(models.Model):
    """A request of a user that counts towards JOBS_PER_MINUTE. It is deleted by a later request of the same user."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["owner", "created_at"], name="asyncsite_rate_recent")]

    def __str__(self):
        return f"{self.owner_id} at {self.created_at}"
