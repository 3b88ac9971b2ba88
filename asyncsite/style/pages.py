"""Pages of the app without the layout around them, rendered from their own templates for the page ``/style/``."""

from dataclasses import fields
from datetime import timedelta
from functools import cache
from types import SimpleNamespace

from django import forms
from django.template.backends.django import DjangoTemplates
from django.utils import timezone

from asyncsite.style.samples import build_inbox_rows, build_jobs, make_id

LAYOUT = "{% block content %}{% endblock %}"
APPROVE = {"label": "Approve", "post": "#"}
CHOICES = [("ship", "Ship"), ("wait", "Wait"), ("delete", "Delete the order")]


class SampleForm(forms.Form):
    """The fields of a question that is answered by a form."""

    amount = forms.IntegerField(help_text="In euros.")
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}))
    is_urgent = forms.BooleanField(required=False)


def render_pages(request):
    """Return captions and HTML of the pages in their states. Nothing of them is stored."""
    now = timezone.now()
    question = SimpleNamespace(title="Ship the order?", job=make_id(1), pk=make_id(2), ended_at=now)
    asked = {"question": question, "body": "To the new address."}
    about = {
        "asking_job": SimpleNamespace(
            title="Orders of today", progress_message="Order 7", progress_current=3, progress_total=7
        ),
        "excerpts": ["notifications/output_end.html"],
        "output": {
            "lines": [("", "Dear customer,\nwe ship it tomorrow."), ("continued", "")],
            "url": "/style/",
        },
    }
    row, done = build_inbox_rows()[0], build_jobs()[7]
    row["notification"].pk = make_id(3)
    device = SimpleNamespace(id=make_id(4), name="Firefox on Linux", used_at=now, seen_at=now)
    job = SimpleNamespace(**{field.name: getattr(done["job"], field.name) for field in fields(done["job"])})
    job.done = True
    category = {"key": "reports", "name": "Reports"}
    times = {"start": now - timedelta(seconds=5), "left": "0%"}
    rows = [
        SimpleNamespace(kind="attempt", name="Attempt 1", icon="success", took="5 s", width="100%", **times),
        SimpleNamespace(
            kind="step", name="Read the orders", icon="success", took="2.4 s", width="48%", **times
        ),
        SimpleNamespace(kind="event", name="Shown in the bell.", icon="info", start=now),
    ]
    timeline = SimpleNamespace(rows=rows, note="", is_telling=True, events=[])
    ended = {
        **done,
        "job": job,
        "result": "",
        "has_link": True,
        "timeline": timeline,
    }
    samples = [
        ("A notification", "notification", {"row": row["notification"], "item": row, **ended, "timeline": None}),
        ("An action", "confirm_action", {"row": row["notification"], "action": APPROVE, "number": 0}),
        ("A question", "question", {**asked, **about, "choices": CHOICES, "danger": ["delete"]}),
        ("Confirm an answer", "question", {**asked, "confirm": "delete", "confirm_label": "Delete the order"}),
        ("A question by a form, with errors", "question", {**asked, "form": SampleForm({}, prefix="style")}),
        ("Answered", "question", {**asked, "end": "Ada has answered: Ship."}),
        ("A job", "job", ended),
        ("Devices", "devices_page", {"devices": [{"row": device, "mark": "a"}]}),
        ("No devices", "devices_page", {"devices": []}),
        ("Unsubscribe", "unsubscribe", {"is_valid": True, "category": category}),
        ("Unsubscribed", "unsubscribe", {"is_valid": True, "is_done": True, "category": category}),
        ("A wrong link", "unsubscribe", {"is_valid": False}),
    ]  # fmt: skip
    return [
        {
            "caption": caption,
            "html": _engine().get_template(f"notifications/{name}.html").render(context, request),
        }
        for caption, name, context in samples
    ]


@cache
def _engine():
    loaders = [
        ("django.template.loaders.locmem.Loader", {"notifications/base.html": LAYOUT}),
        "django.template.loaders.app_directories.Loader",
    ]
    options = {"loaders": loaders, "context_processors": ["django.template.context_processors.request"]}
    return DjangoTemplates({"NAME": "style", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})
