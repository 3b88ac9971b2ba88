"""What the list and the page of jobs request again, each second while jobs are active."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotModified
from django.urls import path, reverse
from django.utils.crypto import salted_hmac
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from notifications import states
from notifications.admin.mixins import ModelAdminBase
from notifications.admin.timelines import set_last_errors, set_wait_reasons
from notifications.db.transactions import connection
from notifications.http.access import BACKGROUND_MARK, background_view
from notifications.jobs.selection import HIDDEN, JobFilter
from notifications.models import Job
from notifications.templatetags.notifications import csp_nonce

#: The columns of the list that change while a job is active.
LIVE_COLUMNS = ("state_cell", "last_error", "took_cell")
#: The states whose jobs have an index, and the jobs of each that are counted at most.
COUNTED_STATES, MAX_JOBS_PER_STATE = states.ACTIVE + states.LISTED_BY_INDEX, 1_000
QUEUED_CONDITIONS = (" AND due_at IS NULL", " AND due_at IS NOT NULL")
#: Seconds after which a page is made again although no job has changed: elapsed times do.
MAX_AGE_SECONDS = 5
#: Tells the script that nothing changes any more.
FINAL = mark_safe("<span data-overview-final hidden></span>")


class LiveJobsMixin(ModelAdminBase):
    """Has the list and the page of a job follow the jobs that they show. The script is ``admin/overview.js``."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("rows/", view(background_view(self.rows_view)), name="notifications_job_rows"),
            path(
                "<path:object_id>/state/",
                view(background_view(self.state_view)),
                name="notifications_job_state",
            ),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context: dict[str, Any] = getattr(response, "context_data", None) or {}
        if "cl" in context:
            jobs = context["cl"].result_list
            if not all(job.done for job in jobs):
                ids = ",".join(job.pk.hex for job in jobs)
                kind = "shown" if shows_deliveries(context["cl"]) else HIDDEN
                counts = f"&counts={kind}" if has_state_counts(context["cl"]) else ""
                url = f"{self._url('rows')}?ids={ids}{counts}&{BACKGROUND_MARK}"
                context |= {"nonce": csp_nonce({}, request), "rows_url": url}
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and not job.done:
            context["state_url"] = f"{self._url('state', job.pk)}?{BACKGROUND_MARK}"
        return super().render_change_form(request, context, *args, **kwargs)

    def rows_view(self, request: HttpRequest) -> HttpResponse:
        """Return the columns that change of these jobs, or 304 if they are the same."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            ids = [UUID(id) for id in request.GET.get("ids", "").split(",")[: self.list_per_page]]
        except ValueError:
            return HttpResponseBadRequest()
        rows = self.get_queryset(request).filter(pk__in=ids).defer("args", "kwargs", "result", "error")
        jobs = list(rows.order_by("pk"))
        kind, counts = request.GET.get("counts"), ()
        if kind and self.shows_all_jobs():
            counts = tuple(count_states(with_deliveries=kind != HIDDEN).values())

        def respond() -> HttpResponse:
            set_last_errors(request, jobs)
            set_wait_reasons(jobs)
            cells = [getattr(self, name)(job) for job in jobs for name in LIVE_COLUMNS]
            return HttpResponse("".join([*cells, *counts, *[FINAL] * all(job.done for job in jobs)]))

        return _unless_same(request, jobs, respond, *counts)

    def state_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the page of a job, whose parts the script takes from it, or 304 if they are the same."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        job = self.get_object(request, unquote(object_id))
        if job is None:
            raise Http404("The job does not exist.")
        # Messages are for the page that a person loads.
        context = {"messages": ()}
        return _unless_same(request, [job], lambda: self.changeform_view(request, object_id, "", context))

    def _url(self, name: str, *args: Any) -> str:
        return reverse(f"{self.admin_site.name}:notifications_job_{name}", args=args)


def live(name: str, key: object, content: Any) -> SafeString:
    """Return a part of the page that the script keeps up to date. Its id is ``name`` and ``key``."""
    return format_html('<span id="{}-{}" data-overview-part>{}</span>', name, key, content)


def has_state_counts(changelist: Any) -> bool:
    """Return whether a list has all jobs, or all of a state. Elsewhere the counts would be of other jobs."""
    is_filtered = bool(
        {*changelist.get_filters_params()} - {"state__exact", "deliveries"} or changelist.query
    )
    return changelist.model_admin.shows_all_jobs() and not is_filtered


def tag_alone(changelist: Any) -> str:
    """Return the tag of a list that has all jobs with it, or all of these in a state; "" for any other list."""
    params = changelist.get_filters_params()
    is_filtered = bool({*params} - {"state__exact", "deliveries", "tag"} or changelist.query)
    return (
        params["tag"][0]
        if "tag" in params and changelist.model_admin.shows_all_jobs() and not is_filtered
        else ""
    )


def shows_deliveries(changelist: Any) -> bool:
    """Return whether a list of jobs has those with which the app sends messages too."""
    # The filter is there where tasks of the app send messages.
    specs = (spec for spec in changelist.filter_specs if getattr(spec, "is_on_by_default", False))
    return all(spec.value() for spec in specs)


def count_states(*, with_deliveries: bool = True) -> dict[str, SafeString]:
    """Return labels of states with the numbers of their jobs, by state, as parts that the script keeps up to date."""
    # The conditions of indexes, one or two for each state.
    conditions = [
        (state, f"WHERE state = '{state}'{condition}")
        for state in COUNTED_STATES
        for condition in (QUEUED_CONDITIONS if state == states.JobState.QUEUED else ("",))
    ]
    shown = "" if with_deliveries else f" WHERE {JobFilter.project_sql()}"
    rows = f"SELECT task_path FROM notifications_job {{}} LIMIT {MAX_JOBS_PER_STATE + 1}"
    counts = " UNION ALL ".join(
        f"SELECT '{state}', (SELECT count(*) FROM ({rows.format(sql)}) x{shown}), "
        f"EXISTS (SELECT 1 FROM notifications_job {sql} LIMIT 1 OFFSET {MAX_JOBS_PER_STATE})"
        for state, sql in conditions
    )
    totals: Counter[str] = Counter()
    capped = set()
    with connection().cursor() as cursor:
        cursor.execute(counts)
        for state, count, has_more in cursor.fetchall():
            totals[state] += count
            capped |= {state} if has_more else set()
    labels = {}
    for state, count in totals.items():
        is_capped = state in capped or count > MAX_JOBS_PER_STATE
        number = number_format(min(count, MAX_JOBS_PER_STATE), force_grouping=True)
        text = f"{Job.State(state).label} ({number}{'+' if is_capped else ''})"
        labels[str(state)] = live("count", state, text)
    return labels


def _unless_same(request: HttpRequest, jobs: Iterable[Job], respond: Any, *texts: str) -> HttpResponse:
    # Changes of state and progress raise the version. Steps, output and elapsed times follow with the time. Columns are
    # not hashed: who may not see the arguments of a job could try some.
    values = ([(job.pk, job.version) for job in jobs], texts, time.time() // MAX_AGE_SECONDS)
    etag = f'"{salted_hmac(__name__, repr(values), algorithm="sha256").hexdigest()[:32]}"'
    is_same = request.headers.get("If-None-Match") == etag
    response: HttpResponse = HttpResponseNotModified() if is_same else respond()
    response["ETag"], response["Cache-Control"] = etag, "private, no-cache"
    return response
