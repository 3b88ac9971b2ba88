"""Change many jobs: the page that asks first, and the job that changes all that a filter of the admin finds."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.admin.confirmation import LOG_TEXTS, ask, read_form
from notifications.api import FinishedJob, policy, progress, requester
from notifications.db import database
from notifications.exceptions import NotificationsError
from notifications.inbox import require_permission
from notifications.jobs import JobFilter, own_task, using_first_backend
from notifications.models import Job
from notifications.worker import current_execution

#: Jobs that get an entry of their own in Django's log of changes. All are counted in the entry of the whole change.
MAX_JOBS_LOGGED = 1_000
#: Longest time of a change, in seconds.
TIMEOUT_SECONDS = 6 * 3600

#: How long ago a question may have been asked that is answered.
MAX_QUESTION_AGE = timedelta(days=1)
#: The highest priority of Django's Tasks.
MAX_PRIORITY = 100

#: The changes by the names of the actions of the list of jobs.
CHANGES = {
    "cancel_jobs": "cancel",
    "retry_jobs": "retry",
    "run_jobs_now": "run_now",
    "reschedule_jobs": "reschedule",
}


def respond(model_admin: Any, request: HttpRequest, change: str) -> HttpResponse | None:
    """Ask whether all jobs of the list are to be changed, or begin it if the answer is sent. None: it is refused.

    The question carries the conditions of the jobs that were counted, and until when: a filter such as "Past hour" has
    other jobs when the answer comes.
    """
    try:
        counted = _read_counted(request, change) or CountedJobs(
            model_admin.read_conditions(request), times.now()
        )
    except ValueError as exc:
        model_admin.message_user(request, str(exc), messages.ERROR)
        return None
    conditions = counted.conditions.until(change, counted.until)
    count, is_partial = conditions.count(change)
    if not count and not is_partial:
        model_admin.message_user(request, _none_applies(change, conditions), messages.WARNING)
        return None
    form = read_form(request) if change == "reschedule" else None
    is_answer = "confirmed" in request.POST and "counted" in request.POST
    if not is_answer or (form and not form.is_valid()):
        return ask(
            model_admin,
            request,
            change,
            count,
            is_partial=is_partial,
            is_for_all=True,
            form=form,
            counted=counted.sign(_salt(request, change)),
        )
    known_count = None if is_partial else count
    run_at = form.cleaned_data["run_at"] if form else None
    newer = counted.conditions.until(change, times.now()).count(change)[0] - count
    response = begin(model_admin, request, change, conditions, known_count, run_at=run_at)
    if response and newer > 0:
        text = ngettext(
            "%(count)d more since the question. It stays as it is.",
            "%(count)d more since the question. They stay as they are.",
            newer,
        )
        model_admin.message_user(request, text % {"count": newer}, messages.INFO)
    return response


class CountedJobs(NamedTuple):
    """What a question is about: the jobs that meet these conditions at a time."""

    conditions: JobFilter
    until: datetime

    def sign(self, salt: str) -> str:
        """Return it for the form of the question. Users cannot change it to what they may not filter by."""
        value = {"conditions": self.conditions.to_json(), "until": self.until.isoformat()}
        return signing.dumps(value, salt=salt)


def _read_counted(request: HttpRequest, change: str) -> CountedJobs | None:
    """Return the question that is answered, None before the first one. Raises ValueError if it is too old."""
    if not (text := request.POST.get("counted", "")):
        return None
    try:
        value = signing.loads(text, salt=_salt(request, change), max_age=MAX_QUESTION_AGE)
    except signing.BadSignature as exc:
        raise ValueError(
            _("No job was changed, because this page is too old. Select the jobs again.")
        ) from exc
    return CountedJobs(JobFilter.from_json(value["conditions"]), datetime.fromisoformat(value["until"]))


def _salt(request: HttpRequest, change: str) -> str:
    return f"{__name__}.{change}.{request.user.pk}"


def begin(
    model_admin: Any,
    request: HttpRequest,
    change: str,
    conditions: JobFilter,
    count: int | None,
    *,
    run_at: datetime | None = None,
) -> HttpResponse | None:
    """Enqueue the job that makes the change, and redirect to its page. None: it is refused.

    ``count`` is how many they are, None if that is not known. ``run_at`` is when rescheduled jobs run.
    """
    with requester(request.user):
        try:
            # Before the jobs that it is to cancel.
            prepared = using_first_backend(change_matching_jobs, priority=MAX_PRIORITY)
            job = prepared.enqueue(
                title=_title(change, count),
                change=change,
                conditions=conditions.to_json(),
                count=count,
                run_at=run_at.isoformat() if run_at else None,
            )
        except NotificationsError as exc:  # the user has too many jobs
            model_admin.message_user(request, str(exc), messages.ERROR)
            return None
    text = _("The jobs are being changed. You can leave this page; you will be notified when it is done.")
    model_admin.message_user(request, text, messages.SUCCESS)
    name = model_admin.admin_site.name
    if not model_admin.admin_site.is_registered(Job):
        return HttpResponseRedirect(
            reverse("admin:notifications_operations_overview_changelist", current_app=name)
        )
    return HttpResponseRedirect(reverse("admin:notifications_job_change", args=[job.id], current_app=name))


def _notification(job: FinishedJob) -> dict[str, Any]:
    return {"body": job.result["text"]} if job.state == "succeeded" else {}


@own_task()
@policy(title="{title}", max_attempts=3, timeout=TIMEOUT_SECONDS, notify=_notification)
def change_matching_jobs(
    *,
    title: str,
    change: str,
    conditions: dict[str, str],
    count: int | None,
    run_at: str | None = None,
) -> dict[str, Any]:
    """Change all jobs that meet the conditions in the name of the job's owner, report progress, and log what was done.

    ``count`` is how many there were when the user confirmed it, None if that is not known. The result has the numbers
    of changed and skipped jobs, and ``text`` that says both.
    """
    execution = current_execution()
    assert execution is not None
    by = execution.job.user_id
    changed = skipped = 0
    moment = datetime.fromisoformat(run_at) if run_at else None
    for chunk in JobFilter.from_json(conditions).change(
        change,
        by=by,
        run_at=moment,
        check_permission=partial(require_permission, by, "notifications.change_job"),
    ):
        if changed < MAX_JOBS_LOGGED:
            _log(
                by, list(chunk.changed)[: MAX_JOBS_LOGGED - changed], LOG_TEXTS[change].format(run_at=moment)
            )
        changed += len(chunk.changed)
        skipped += len(chunk.found) - len(chunk.changed)
        progress(changed + skipped, None if count is None else max(count, changed + skipped))
    text = _describe(change, changed, skipped)
    _log(by, [execution.job.id], text)
    return {"changed": changed, "skipped": skipped, "text": text}


def _log(by: Any, ids: list[Any], text: str) -> None:
    jobs = list(Job.objects.using(database()).filter(pk__in=ids).only("title"))
    if jobs:
        LogEntry.objects.log_actions(by, jobs, CHANGE, text)  # type: ignore[arg-type]


def _none_applies(change: str, conditions: JobFilter) -> str:
    return {
        "retry": _("No job was queued again, because none of them has failed or was cancelled."),
        "cancel": _("No job was cancelled, because none of them is queued or running."),
        "run_now": _("No job was changed, because none of them waits for a time."),
        "reschedule": _("No job was changed, because none of them is queued."),
    }[change]


def _title(change: str, count: int | None) -> str:
    if count is None:
        return {
            "retry": _("Retry many jobs"),
            "cancel": _("Cancel many jobs"),
            "run_now": _("Run many jobs now"),
            "reschedule": _("Reschedule many jobs"),
        }[change]
    return {
        "retry": ngettext("Retry %(count)d job", "Retry %(count)d jobs", count),
        "cancel": ngettext("Cancel %(count)d job", "Cancel %(count)d jobs", count),
        "run_now": ngettext("Run %(count)d job now", "Run %(count)d jobs now", count),
        "reschedule": ngettext("Reschedule %(count)d job", "Reschedule %(count)d jobs", count),
    }[change] % {"count": count}


def _describe(change: str, changed: int, skipped: int) -> str:
    texts = {
        "retry": ngettext("%(count)d queued again", "%(count)d queued again", changed),
        "cancel": ngettext("%(count)d cancelled", "%(count)d cancelled", changed),
        "run_now": ngettext("%(count)d run now", "%(count)d run now", changed),
        "reschedule": ngettext("%(count)d rescheduled", "%(count)d rescheduled", changed),
    }
    text = texts[change] % {"count": changed}
    return _("%(changes)s, %(skipped)d skipped.") % {"changes": text, "skipped": skipped}
