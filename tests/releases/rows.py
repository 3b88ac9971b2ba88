"""Rows of every table in the databases of releases, and what the app reads of them.

The functions are called in a process of the site: see ``tests/releases/databases.py``.
"""

import json
from datetime import datetime

from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import models
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.questions import answer, open_questions
from notifications.models import Job, Notification, uuid7
from tests.releases import tasks


def enqueue(queue="default"):
    """Enqueue jobs, which a worker then runs, and create what has public functions."""
    user = get_user_model().objects.get(username="demo")
    webhooks.create("https://crm.example.com/hooks", events=["job.failed"], owner=user)
    notify(user, "Disk of db-2 is 91 % full", level="warning", body="Delete old exports.", category="disks")
    notify(user, "Ada requests access", actions=[{"label": "Approve", "post": "/access/7/approve/"}], key="7")
    tasks.send_receipts.using(owner=user, queue_name=queue).enqueue(month="May")
    for each in (tasks.import_orders, tasks.delete_account, tasks.order_label, tasks.send_reminder):
        each.using(owner=user, queue_name=queue).enqueue()


def resume(queue="default"):
    """Answer the questions of a queue's jobs, and retry those that failed."""
    user, client = get_user_model().objects.get(username="demo"), _sign_in("demo")
    for asked in open_questions(user):
        if Job.objects.get(pk=asked.job_id).queue_name == queue:
            answer(asked.job_id, asked.name, "yes", user=user)
    for job in Job.objects.filter(queue_name=queue, state="failed"):
        assert client.post(reverse("notifications:api-job-retry", args=[job.pk])).status_code == 202


def fill():
    """Create a row in each table that has none."""
    for model in _models():
        if not model.objects.exists():
            model.objects.create(
                **{field.attname: _value(field) for field in model._meta.local_concrete_fields}
            )


def read():
    """Print as JSON what the app reads: how many rows each table has, and what its pages, API and admin say."""
    client, staff = _sign_in("demo"), _sign_in("admin")
    counts = {model._meta.db_table: len(model.objects.all()) for model in _models()}
    inbox = client.get(reverse("notifications:inbox")).content.decode()
    titles = [row.title for row in Notification.objects.order_by("id") if row.user.username == "demo"]
    jobs = {job.title: [job.state, job.result] for job in Job.objects.order_by("title")}
    for job in Job.objects.filter(user__username="demo"):
        assert job.title in client.get(reverse("notifications:job", args=[job.pk])).content.decode()
        assert (
            job.title in staff.get(reverse("admin:notifications_job_change", args=[job.pk])).content.decode()
        )
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username="admin")
    for app in admin.site.get_app_list(request):
        for address in filter(None, (model["admin_url"] for model in app["models"])):
            assert staff.get(address).status_code == 200, address
    sync = client.get(reverse("notifications:api-sync")).json()
    print(
        json.dumps(
            {
                "rows": counts,
                "inbox": sorted(title for title in titles if title in inbox),
                "jobs": jobs,
                "seq": sync["seq"],
                "unread": sync["unread"],
                "items": sorted(item["title"] for item in sync["items"]),
                "active": sorted(job["title"] for job in sync["jobs"]),
            },
            indent=1,
            sort_keys=True,
        )
    )


def _models():
    """Return the models of this project's apps that have a table which the database of this vendor fills."""
    return [
        model
        for model in apps.get_models()
        if model.__module__.startswith(("notifications.", "asyncsite.")) and not model._meta.proxy
    ]


def _sign_in(username):
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(get_user_model().objects.get(username=username))
    return client


def _value(field):
    """Return a value that a column can have."""
    if field.has_default():
        return field.get_default()
    if field.remote_field:
        return field.remote_field.model.objects.values_list("pk", flat=True).earliest("pk")
    if field.choices:
        return field.flatchoices[0][0]
    if isinstance(field, models.AutoField):
        return None
    if isinstance(field, models.DateTimeField):
        return timezone.make_aware(datetime(2026, 5, 4, 12))
    if isinstance(field, models.UUIDField):
        return uuid7()
    if isinstance(field, models.JSONField):
        return []
    if isinstance(field, models.BooleanField):
        return True
    if isinstance(field, models.IntegerField):
        return 1
    return "x"
