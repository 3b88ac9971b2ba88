"""Rates: one limit for all processes of how many jobs start, or calls are sent, in a minute.

api            ``rate()`` below ``@task``, ``charge()``, and the error of a call that would wait too long
declarations   reads and validates ``NOTIFICATIONS["RATES"]``
models         the state of each limit
tokens         takes what a limit allows now, by the generic cell rate algorithm
starts         what the claims of jobs take: see ``notifications/jobs/transitions/limiting.py``
calls, gates   what outbound calls to the hosts of a rate wait for, and what the responses say of it
corrections    reads ``Retry-After`` and ``RateLimit``
pages          what the page of a job and ``jobs show`` say
uses           what people read of limits: ``admin``, ``findings`` (of ``doctor``) and ``metrics``
admin, checks, findings, metrics, operations
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, JobSection, Setting, import_later


class RateSection(JobSection):
    """What a queued job waits for, and about until when."""

    name = "rate"
    page_template = "notifications/rate.html"
    admin_template = "notifications/rate.html"

    page_context = import_later("pages.describe_for_page")
    admin_context = import_later("pages.describe_for_page")
    lines = import_later("pages.describe_in_lines")
    item = import_later("pages.describe_as_json")


class Rates(Extension):
    name = "notifications.contrib.rates"
    label = "notifications_rates"
    verbose_name = _("Rates")
    settings: ClassVar[Mapping[str, Setting]] = {"RATES": Setting({})}
    tables: ClassVar[Mapping[str, str]] = {
        "notifications_rates.Limit.used_at": "age",
    }
    job_sections = (RateSection(),)

    checks = import_later("findings.make_checks")
    allow_starts = import_later("starts.allow")

    def ready(self) -> None:
        from notifications.contrib.rates import checks  # noqa: F401  (the import registers it)
