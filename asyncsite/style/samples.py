"""Samples for the templates of the page ``/style/``. None of them is stored.

Their texts are English and not translated: they stand for what users and tasks write.
"""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

from django.apps import apps
from django.core.paginator import Paginator
from django.utils import timezone

from asyncsite.call_list import COLUMNS, CallList, build_column, build_outcomes, parse_selection
from asyncsite.chart import build_chart
from asyncsite.forms import CheckForm, ReportForm
from asyncsite.listing import ReportRow, build_row
from asyncsite.models import Call, Report
from asyncsite.summary import compute_totals, describe_passed
from notifications.api import JobInfo

LONG_TEXT = "Unbroken" * 24
BATCH = "A batch, some of whose jobs failed"
RESPONSE_TIMES_MS = (12, 18, 24, 31, 38, 44, 47, 52, 66, 71, 83, 90, 95, 104, 120, 180, 240, 410, 780, 1_300)


def build_bells():
    """Return bells: a caption, the number of unseen notifications, and the state of the connection."""
    return [
        {"caption": "Nothing new", "badge": 0},
        {"caption": "3 new", "badge": 3},
        {"caption": "Over 99", "badge": 250},
        {"caption": "5, one waits for an answer", "badge": 5, "questions": 1},
        {"caption": "Server away", "badge": 3, "state": "offline"},
        {"caption": "Signed out", "badge": 0, "state": "signed_out"},
    ]


def build_preferences():
    """Return rows of preferences: all channels, one that is required, one by which nothing is sent, a long name."""
    labels = {"bell": "in the bell", "email": "by e-mail", "push": "by push"}
    texts = {"on": "each one", "daily": "every day, together", "off": "none"}
    offered = {"bell": ["on", "off"], "email": ["on", "daily", "off"], "push": ["on", "off"]}

    def build(name, description="", is_required=False, **choices):
        cells = [
            {
                "channel": channel,
                "label": label,
                "choice": choices.get(channel, ""),
                "options": [(value, texts[value]) for value in offered[channel]]
                if channel in choices
                else [],
            }
            for channel, label in labels.items()
        ]
        return {
            "key": name,
            "name": name,
            "description": description,
            "is_required": is_required,
            "cells": cells,
        }

    rows = [
        build("Reports", "Reports that are ready", bell="on", email="daily", push="on"),
        build("Security", "Sign-ins and passwords", is_required=True, bell="on", email="on", push="on"),
        build("Imports", bell="off", email="off"),
        build(LONG_TEXT, LONG_TEXT, bell="on", email="on", push="off"),
    ]
    return {"preference_rows": rows, "preference_channels": list(labels.values())}


def build_toasts():
    return [
        build_row_of("Report started", body="40 URLs"),
        build_row_of("Partner APIs finished", body="39 passed, 1 refused", level="success", job=make_id(1)),
        build_row_of("Disk of db-2 is 91 % full", body="Delete old exports, or add space.", level="warning"),
        build_row_of("Partner APIs failed", body="The worker was lost.", level="error", job=make_id(1)),
        build_row_of("Ada requests access to Reports", actions=["Approve", "View request"]),
        build_row_of(LONG_TEXT, body=LONG_TEXT),
    ]


def build_inbox_rows():
    """Return rows of the inbox in each state, with why the user has them and what can be done."""
    job = SimpleNamespace(pk=make_id(1), title="Partner APIs", schedule="")
    nightly = SimpleNamespace(pk=make_id(1), title="Delete old reports", schedule="delete-old-reports")
    return [
        build_row_of("Partner APIs finished", body="39 passed, 1 refused", level="success", reason={"job": job}),
        build_row_of("Partner APIs failed", body="The worker was lost.", level="error", reason={"job": job}),
        build_row_of("Ada requests access to Reports", actions=["Approve", "View request"], category="access"),
        build_row_of("Maintenance on Sunday, 6:00 to 7:00", level="warning", reason={"sender": "Grace Hopper"}),
        build_row_of("Old reports deleted", body="12 reports", reason={"job": nightly}, is_read=True),
        build_row_of(LONG_TEXT, body=LONG_TEXT, category="imports", is_read=True),
        build_row_of("Export of October finished", body="12,400 rows", level="success", is_archived=True),
    ]  # fmt: skip


def build_group():
    """Return notifications that the inbox shows as one row."""
    return SimpleNamespace(
        key="imports",
        url="#inbox",
        title="Imports",
        body="5 finished, 1 failed",
        total="6",
        level="error",
        is_unread=True,
        raised_at=timezone.now() - timedelta(minutes=4),
        get_level_display=lambda: "Error",
    )


def build_row_of(title, *, actions=(), reason=None, is_read=False, is_archived=False, **fields):
    """Return a row of the inbox with a notification that is not stored."""
    now = timezone.now()
    job = reason and reason.get("job")
    age = timedelta(days=3) if is_archived else timedelta(hours=5) if is_read else timedelta(minutes=4)
    notification = apps.get_model("notifications", "Notification")(
        title=title,
        raised=1,
        created_at=now - age,
        read_at=now if is_read else None,
        archived_at=now if is_archived else None,
        **{"url": "/style/", "job": job and job.pk, **fields},
    )
    links = [{"label": label, "href": "/style/"} for label in actions]
    return {"notification": notification, "actions": links, "reason": reason}


def build_jobs():
    """Return jobs in each state: a caption, and the context of ``notifications/job_state.html``."""
    now = timezone.now()
    error = {"type": "error", "title": "Failed", "detail": "The job stopped because of an error."}
    done = {
        "started_at": now - timedelta(seconds=14),
        "finished_at": now,
        "progress_current": 40,
        "progress_total": 40,
        "url": "/style/",
    }
    stopped = {**done, "url": "", "progress_current": 18, "progress_message": "Reading orders"}
    running = {"state": "running", "attempt": 1, "started_at": now - timedelta(seconds=20)}
    samples = [
        ("Queued", build_job(state="queued")),
        ("Queued, retry", build_job(state="queued", attempt=1, run_after=now + timedelta(minutes=10))),
        ("Running with a total", build_job(**running, progress_current=18, progress_total=40)),
        ("Running without a total", build_job(**running, progress_message="Reading orders")),
        ("Cancelling", build_job(**running, progress_current=18, progress_total=40, cancel_requested_at=now)),
        ("Running, server away", build_job(**running, progress_current=18, progress_total=40)),
        ("Waiting", build_job(state="waiting", attempt=1, started_at=now - timedelta(hours=2))),
        ("Succeeded", build_job(state="succeeded", attempt=1, **done)),
        ("Failed", build_job(state="failed", attempt=3, error=error, **stopped)),
        ("Cancelled", build_job(state="cancelled", attempt=1, **done | {"progress_current": 18})),
        (BATCH, build_job(state="failed", attempt=1, **done | {"url": ""})),
    ]
    batch = {
        "bar": [("error", "100%"), ("success", "95%")],
        "failed": [
            ("Line 4 has no price.", [("Orders of March", ["/style/", "/style/"]), (LONG_TEXT, ["/style/"])])
        ],
        "others": 3,
    }
    outcomes = {
        "succeeded": "36 of 40 passed. 4 failed, first: api.example.com/orders: 404",
        "failed": "Failed",
        "cancelled": "Cancelled",
    }
    return [
        {
            "caption": caption,
            "job": job,
            "is_done": job.is_done,
            "state": job.state_label,
            "outcome": "38 of 40 done, 2 failed" if caption == BATCH else outcomes.get(job.state),
            "reason": job.error and job.error["detail"],
            "stopped_early": caption != BATCH,
            "batch": batch if caption == BATCH else None,
            "level": {"succeeded": "warning", "failed": "error", "cancelled": "warning"}.get(job.state, ""),
            "took": job.took_label,
            "elapsed": job.elapsed_label,
            "pace": job.pace_label,
            "is_cancelled_by_owner": job.state == "cancelled",
            "can_retry": job.state in ("failed", "cancelled"),
            "is_outage": caption.endswith("server away"),
        }
        for caption, job in samples
    ]


def build_job(*, state, **fields):
    values = dict.fromkeys(JobInfo.__dataclass_fields__)
    texts = {"task_path": "tasks.check", "queue_name": "default", "title": "Partner APIs", "url": ""}
    numbers = {"owner_id": 1, "attempt": 0, "max_attempts": 3, "version": 1}
    now = timezone.now()
    values |= texts | numbers | {"id": make_id(1), "progress_message": "", "cancelled_by_other": False}
    return JobInfo(**{**values, "created_at": now, "state": state, **fields})


def build_report():
    """Return the context of the totals, the chart and the table of calls of a report with calls of each outcome."""
    calls = build_calls()
    totals = compute_totals(calls)
    selection = parse_selection({})
    call_list = CallList(
        selection=selection,
        page=Paginator(calls, len(calls)).get_page(1),
        columns=[build_column(selection, *column) for column in COLUMNS],
        outcomes=build_outcomes(selection, totals),
    )
    return {"totals": totals, "chart": build_chart(calls), "calls": call_list}


def build_calls():
    refused, no_response = "The address 169.254.169.254 is not public.", "The response ended too early."
    failed = [
        Call(outcome="failed", status=404, elapsed_ms=31, bytes=120, error="404 Not Found"),
        Call(outcome="failed", status=503, elapsed_ms=2_040, bytes=0, error="503 Service Unavailable"),
        Call(outcome="failed", error=no_response),
        Call(outcome="refused", error=refused),
    ]
    ok = [
        Call(outcome="ok", status=200, elapsed_ms=time, bytes=time * 97, content_type="application/json")
        for time in RESPONSE_TIMES_MS
    ]
    calls = [*failed, *ok]
    for position, call in enumerate(calls, start=1):
        call.position, call.url = position, f"https://api.example.com/partners/{position}"
    failed[0].url = "https://api.example.com/" + "long/" * 30
    return calls


def build_report_states():
    """Return the contexts of ``report_state.html``: running, with the server away, done, failed, and cancelled."""
    totals = compute_totals(build_calls())
    shared = {"report": Report(pk=1, size=40), "totals": totals, "missing": 40 - totals.calls}
    shared["passed"] = describe_passed(totals.ok, 40)
    jobs = {sample["caption"]: sample["job"] for sample in build_jobs()}
    return [
        {
            **shared,
            "caption": caption,
            "job": job,
            "state": job.state,
            "is_active": not job.is_done,
            "is_outage": caption.endswith("server away"),
        }
        for caption, job in [
            ("Running", jobs["Running with a total"]),
            ("Running, server away", jobs["Running, server away"]),
            ("Done", jobs["Succeeded"]),
            ("Failed", jobs["Failed"]),
            ("Cancelled by its owner", jobs["Cancelled"]),
            ("Cancelled by another user", replace(jobs["Cancelled"], cancelled_by_other=True)),
        ]
    ]


def build_report_rows() -> list[ReportRow]:
    """Return rows of the list of reports, one for each state. One has a long title."""
    rows = []
    for number, sample in enumerate(build_jobs(), start=1):
        job = sample["job"]
        counts = (
            (0, 0, 0) if job.state == "queued" else (36, 3, 1) if job.state == "succeeded" else (20, 3, 1)
        )
        title = LONG_TEXT if number == 3 else sample["caption"]
        report = Report(pk=number, title=title, size=40, created_at=job.created_at - timedelta(minutes=4))
        rows.append(build_row(report, job, dict(zip(Call.Outcome.values, counts, strict=True))))
    return rows


def build_forms():
    """Return forms as they are sent back: with what was typed, and with errors."""
    urls = "https://api.example.com/partners/1\napi.example.com/partners/2\nhttps://\n"
    reports = ReportForm({"urls": urls, "title": "Partner APIs"}, auto_id="report-%s")
    check = CheckForm({"url": "ftp://files.example.com/"}, auto_id="check-%s")
    return {"report_form": reports, "check_form": check, "empty_form": CheckForm(auto_id="empty-%s")}


def make_id(number):
    return UUID(int=number)
