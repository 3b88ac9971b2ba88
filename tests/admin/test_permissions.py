"""Each page and action of the app's admin, with each permission: who may open and do what, as tables."""

import logging
import re
from datetime import timedelta
from importlib import import_module
from io import StringIO
from itertools import product
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.http import HttpResponseBadRequest
from django.template.loader import get_template
from django.test import Client
from django.utils import timezone

from notifications.admin import OwnedMixin
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.contrib.operations.models import Alert
from notifications.contrib.rates.models import Limit
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.models import Attempt, Job, Notification, Queue, Worker
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = "/admin/notifications/"
#: Stands in every row of these tests, so that a page that shows one of them is found out.
SECRET = "tell-nobody"
#: A webhook, whose row some actions delete.
WEBHOOK = UUID("0198f4d2-7c1e-7b3a-9d54-3f1b6a0c8e21")
WEBHOOK_VALUES = {
    "url": "https://hooks.example/",
    "description": SECRET,
    "events": "job.failed",
    "secret": "whsec_secret",
    "created_at": timezone.now(),
}

#: Staff with these permissions, beside staff with one permission each, for what no single set of permissions is enough.
COMBINATIONS = {
    "view and change jobs": {"view_job", "change_job"},
    "view notifications and change jobs": {"view_notification", "change_job"},
    "view the overview and change jobs": {"view_overview", "change_job"},
    "all of jobs": {"view_job", "change_job", "view_attempt", "view_job_arguments", "view_traceback"},
    "run jobs": {"view_job", "add_job", "view_job_arguments"},
    "operate schedules": {"view_schedule", "change_schedule", "run_schedule"},
    "make schedules": {"add_schedule", "add_job"},
    "all but to change": {
        *("view_job", "view_attempt", "view_job_arguments", "view_traceback", "view_notification"),
        *(
            "add_notification",
            "view_overview",
            "view_alert",
            "receive_alerts",
            "view_schedule",
            "view_limit",
            "view_worker",
        ),
    },
    "operate the overview": {"view_overview", "change_queue", "change_worker", "change_alert"},
}
ANONYMOUS, PLAIN_USER, NO_PERMISSION, SUPERUSER = "anonymous", "no staff", "staff", "superuser"

NOBODY = []
VIEW_JOBS = [{"view_job"}, {"change_job"}]
RUN_JOBS = [{view, "add_job", "view_job_arguments"} for view in ("view_job", "change_job")]
RESEND = [{"view_notification", "change_job"}]
VIEW_LIMITS = [{"view_limit"}]
VIEW_SCHEDULES = [{"view_schedule"}, {"change_schedule"}]
RETRY_GROUP = [{"view_overview", "change_job"}]
VIEW_ALERTS = [{"view_alert"}, {"change_alert"}]
VIEW_WEBHOOKS = [{"view_webhookendpoint"}, {"change_webhookendpoint"}]
CHANGE_WEBHOOKS = [{"change_webhookendpoint"}]
VIEW_BROADCASTS = [{"view_broadcast"}, {"add_notification"}, {"withdraw_broadcast"}]

#: The folders of the pages of models of other apps.
FOLDERS = {
    "alert": "/admin/notifications_operations/",
    "broadcast": "/admin/notifications_broadcasts/",
    "delivery": "/admin/notifications_deliveries/",
    "preference": "/admin/notifications_deliveries/",
    "overview": "/admin/notifications_operations/",
    "limit": "/admin/notifications_rates/",
    "schedule": "/admin/notifications_schedules/",
    "webhookendpoint": "/admin/notifications_webhooks/",
}

#: The path of each page, by the name of its URL, and the sets of permissions of which one is enough to open it.
#: A path that takes no GET, or that Django redirects, is not opened here.
PAGES = {
    "job_changelist": ("job/", VIEW_JOBS),
    "job_changelist?filters": ("job/?state__exact=failed&runs_on=builtin&created=week", VIEW_JOBS),
    "job_changelist?search": (f"job/?q={SECRET}", VIEW_JOBS),
    "job_change": ("job/{job}/change/", VIEW_JOBS),
    "job_state": ("job/{job}/state/", VIEW_JOBS),
    "job_run": ("job/{job}/run/", RUN_JOBS),
    "job_rows": ("job/rows/?ids={job}", VIEW_JOBS),
    "job_history": ("job/{job}/history/", VIEW_JOBS),
    "job_add": ("job/add/", NOBODY),
    "job_delete": ("job/{job}/delete/", NOBODY),
    "notification_changelist": ("notification/", [{"view_notification"}]),
    "notification_change": ("notification/{notification}/change/", [{"view_notification"}]),
    "delivery_resend": ("delivery/{delivery}/resend/", RESEND),
    "notification_history": ("notification/{notification}/history/", [{"view_notification"}]),
    "notification_add": ("notification/add/", NOBODY),
    "notification_delete": ("notification/{notification}/delete/", NOBODY),
    "broadcast_changelist": ("broadcast/", VIEW_BROADCASTS),
    "broadcast_change": ("broadcast/{broadcast}/change/", VIEW_BROADCASTS),
    "broadcast_history": ("broadcast/{broadcast}/history/", VIEW_BROADCASTS),
    "broadcast_add": ("broadcast/add/", [{"add_notification"}]),
    "broadcast_withdraw": ("broadcast/{broadcast}/withdraw/", [{"withdraw_broadcast"}]),
    "broadcast_delete": ("broadcast/{broadcast}/delete/", NOBODY),
    "alert_changelist": ("alert/", VIEW_ALERTS),
    "alert_change": ("alert/{alert}/change/", VIEW_ALERTS),
    "alert_history": ("alert/{alert}/history/", VIEW_ALERTS),
    "alert_add": ("alert/add/", NOBODY),
    "alert_delete": ("alert/{alert}/delete/", NOBODY),
    "overview_changelist": ("overview/", [{"view_overview"}]),
    "overview_changelist?period": ("overview/?period=week", [{"view_overview"}]),
    "overview_tasks": ("overview/tasks/?order=slow", [{"view_overview"}]),
    "overview_figures": ("overview/figures/", [{"view_overview"}]),
    "overview_retry": ("overview/retry/?{group}", RETRY_GROUP),
    "overview_tell": ("overview/tell/?{group}", [{"view_overview", "add_notification"}]),
    "preference_changelist": ("preference/", [{"view_preference"}]),
    "preference_changelist?filters": ("preference/?channel=email", [{"view_preference"}]),
    "preference_change": ("preference/{preference}/change/", [{"view_preference"}]),
    "preference_history": ("preference/{preference}/history/", [{"view_preference"}]),
    "preference_add": ("preference/add/", NOBODY),
    "preference_delete": ("preference/{preference}/delete/", NOBODY),
    "limit_changelist": ("limit/", VIEW_LIMITS),
    "limit_changelist?search": (f"limit/?q={SECRET}", VIEW_LIMITS),
    "limit_change": ("limit/{limit}/change/", VIEW_LIMITS),
    "limit_history": ("limit/{limit}/history/", VIEW_LIMITS),
    "limit_add": ("limit/add/", NOBODY),
    "limit_delete": ("limit/{limit}/delete/", NOBODY),
    "schedule_changelist": ("schedule/", VIEW_SCHEDULES),
    "schedule_change": ("schedule/{schedule}/change/", VIEW_SCHEDULES),
    "schedule_history": ("schedule/{schedule}/history/", VIEW_SCHEDULES),
    "schedule_add": ("schedule/add/", [{"add_schedule", "add_job"}]),
    "schedule_edit": ("schedule/{schedule}/edit/", NOBODY),  # those that are declared
    "schedule_delete": ("schedule/{schedule}/delete/", NOBODY),
    "webhookendpoint_changelist": ("webhookendpoint/", VIEW_WEBHOOKS),
    "webhookendpoint_changelist?search": (f"webhookendpoint/?q={SECRET}", VIEW_WEBHOOKS),
    "webhookendpoint_change": ("webhookendpoint/{webhookendpoint}/change/", VIEW_WEBHOOKS),
    "webhookendpoint_history": ("webhookendpoint/{webhookendpoint}/history/", VIEW_WEBHOOKS),
    "webhookendpoint_add": ("webhookendpoint/add/", [{"add_webhookendpoint"}]),
    "webhookendpoint_delete": ("webhookendpoint/{webhookendpoint}/delete/", [{"delete_webhookendpoint"}]),
}

#: Addresses that take no GET, by the permissions with which they answer 405, so that no link changes anything.
POST_ONLY = {
    "broadcast_preview": ("broadcast/preview/", [{"add_notification"}]),
    "overview_queue": ("overview/queue/", [{"view_overview", "change_queue"}]),
    "overview_worker": ("overview/worker/", [{"view_overview", "change_worker"}]),
    "overview_alert": ("overview/alert/", [{"view_overview", "change_alert"}]),
}
PAGES |= POST_ONLY
#: Pages that lead to another one.
REDIRECTS = {"overview_tell"}

CHANGE_JOBS = [{"change_job"}]
RUN_AT = {"run_at": "2100-01-01T08:30"}
#: Actions: the path, the state in which the job is before, the form, and who may.
ACTIONS = {
    "cancel": ("job/", "queued", {"action": "cancel_jobs"}, CHANGE_JOBS),
    "retry": ("job/", "failed", {"action": "retry_jobs"}, CHANGE_JOBS),
    "run now": ("job/", "delayed", {"action": "run_jobs_now"}, CHANGE_JOBS),
    "reschedule": ("job/", "queued", {"action": "reschedule_jobs", **RUN_AT}, CHANGE_JOBS),
    "reschedule all": (
        "job/",
        "queued",
        {"action": "reschedule_jobs", "select_across": "1", **RUN_AT},
        CHANGE_JOBS,
    ),
    "cancel all": ("job/", "queued", {"action": "cancel_jobs", "select_across": "1"}, CHANGE_JOBS),
    "retry all": ("job/", "failed", {"action": "retry_jobs", "select_across": "1"}, CHANGE_JOBS),
    "run all now": ("job/", "delayed", {"action": "run_jobs_now", "select_across": "1"}, CHANGE_JOBS),
    "delete jobs": ("job/", "failed", {"action": "delete_selected", "post": "yes"}, NOBODY),
    "edit a job": ("job/{job}/change/", "failed", {"title": "edited", "state": "queued"}, NOBODY),
    "delete a job": ("job/{job}/delete/", "failed", {"post": "yes"}, NOBODY),
    "retry a group": ("overview/retry/", "failed", {"confirm": "1"}, RETRY_GROUP),
    "pause a queue": ("overview/queue/", "failed", {"action": "pause"}, POST_ONLY["overview_queue"][1]),
    "resume a queue": ("overview/queue/", "paused", {"action": "resume"}, POST_ONLY["overview_queue"][1]),
    "quiet a worker": ("overview/worker/", "failed", {"action": "quiet"}, POST_ONLY["overview_worker"][1]),
    "stop a worker": (
        "overview/worker/",
        "failed",
        {"action": "stop", "confirm": "1"},
        POST_ONLY["overview_worker"][1],
    ),
    **{
        f"{action} all workers": (
            "overview/worker/",
            "failed",
            {"action": action, "confirm": "1", "id": "all"},
            POST_ONLY["overview_worker"][1],
        )
        for action in ("quiet", "stop")
    },
    "acknowledge an alert": ("overview/alert/", "failed", {}, POST_ONLY["overview_alert"][1]),
    "acknowledge alerts": ("alert/", "failed", {"action": "acknowledge_alerts"}, [{"change_alert"}]),
    "pause": ("schedule/", "failed", {"action": "pause_schedules"}, [{"change_schedule"}]),
    "resume": ("schedule/", "paused", {"action": "resume_schedules"}, [{"change_schedule"}]),
    # The list itself needs a permission to view it.
    "run a schedule": (
        "schedule/",
        "failed",
        {"action": "run_schedules"},
        [{"run_schedule", "view_schedule"}, {"run_schedule", "change_schedule"}],
    ),
    "edit a schedule": ("schedule/{schedule}/change/", "failed", {"name": "edited"}, NOBODY),
    "delete a schedule": ("schedule/{schedule}/delete/", "failed", {"post": "yes"}, NOBODY),
    "send a delivery again": ("delivery/{delivery}/resend/", "failed", {}, RESEND),
    "delete notifications": ("notification/", "failed", {"action": "delete_selected", "post": "yes"}, NOBODY),
    "edit a notification": ("notification/{notification}/change/", "failed", {"title": "edited"}, NOBODY),
    "send a notification": (
        "broadcast/add/",
        "failed",
        {"title": "Hello", "level": "info", "audience_kind": "everybody", "_send": "1"},
        [{"add_notification"}],
    ),
    "withdraw a broadcast": ("broadcast/{broadcast}/withdraw/", "failed", {}, [{"withdraw_broadcast"}]),
    "edit a broadcast": ("broadcast/{broadcast}/change/", "failed", {"title": "edited"}, NOBODY),
    "delete a broadcast": ("broadcast/{broadcast}/delete/", "failed", {"post": "yes"}, NOBODY),
    "add a webhook": (
        "webhookendpoint/add/",
        "failed",
        {"url": "https://hooks.example/", "events": ["job.failed"]},
        [{"add_webhookendpoint"}],
    ),
    "edit a webhook": (
        "webhookendpoint/{webhookendpoint}/change/",
        "failed",
        {"url": "https://edited.example/", "events": ["job.failed"]},
        CHANGE_WEBHOOKS,
    ),
    "test a webhook": ("webhookendpoint/", "failed", {"action": "test_webhooks"}, CHANGE_WEBHOOKS),
    "send again to a webhook": ("webhookendpoint/", "failed", {"action": "resend_webhooks"}, CHANGE_WEBHOOKS),
    "turn a webhook on": ("webhookendpoint/", "paused", {"action": "turn_on_webhooks"}, CHANGE_WEBHOOKS),
    "turn a webhook off": ("webhookendpoint/", "failed", {"action": "turn_off_webhooks"}, CHANGE_WEBHOOKS),
    "rotate a secret": ("webhookendpoint/", "failed", {"action": "rotate_webhooks"}, CHANGE_WEBHOOKS),
    "delete a webhook": (
        "webhookendpoint/{webhookendpoint}/delete/",
        "failed",
        {"post": "yes"},
        [{"delete_webhookendpoint"}],
    ),
    "edit a preference": ("preference/{preference}/change/", "failed", {"choice": "on"}, NOBODY),
    "delete a preference": ("preference/{preference}/delete/", "failed", {"post": "yes"}, NOBODY),
    "delete an alert": ("alert/{alert}/delete/", "failed", {"post": "yes"}, NOBODY),
    "edit an alert": ("alert/{alert}/change/", "failed", {"detail": "edited"}, NOBODY),
}

#: What the page of a job shows only with these permissions, besides that to view jobs.
DETAILS = {
    r"Traceback \(most recent call last\)": {"view_attempt", "view_traceback"},
    r"builtins\.<wbr>ValueError": {"view_attempt"},
    f"message = &quot;{SECRET}&quot;": {"view_job_arguments"},
    "Try this job again": {"change_job"},
    "/admin/notifications/notification/": {"view_notification"},
    "not read": {"view_notification"},
}

#: The parameters of the filters of each list. No other lookup is accepted.
FILTERS = {
    "job": {"state__exact", "task_path", "queue_name", "user", "worker", "batch"},
    "notification": {"level", "category", "broadcast", "user"},
    "broadcast": {"state__exact", "state__isnull", "level__exact", "level__isnull"},
    "alert": {"kind__exact", "kind__isnull", "opened_at__gte", "opened_at__lt", "opened_at__isnull"},
    "preference": {"channel", "user"},
    "limit": set(),
    "schedule": set(),
    "webhookendpoint": set(),
}
#: Models that have no list.
WITHOUT_LIST = {"overview", "delivery"}
#: Lookups that find some value of a field, and one that is never found.
LOOKUPS = {
    "": ("{value}", "0"),
    "__startswith": ("{start}", "~"),
    "__regex": ("^{start}", "^~"),
    "__gte": ("{value}", "9999-12-31"),
    "__isnull": ("0", "1"),
}


def app_permissions():
    return Permission.objects.filter(content_type__app_label__startswith="notifications")


@pytest.fixture
def people(make_user, client_of):
    """Return names, clients and sets of permissions: everybody who may knock at the admin.

    With ``alternatives``, the sets of permissions of which one is enough for a page or an action: staff with each
    permission that they name and with each of them, and staff with all permissions but one of each. A permission never
    takes another one away, so this tells the same as each permission alone, and more.
    """
    staff = make_user("permitted", is_staff=True)
    plain = make_user("plain")
    codenames = list(app_permissions().values_list("codename", flat=True))
    plain.user_permissions.set(app_permissions())

    def yield_all(alternatives=None):
        yield ANONYMOUS, Client(), set()
        yield PLAIN_USER, client_of(plain), set()
        client = client_of(staff)
        named = {codename: {codename} for codename in codenames} | COMBINATIONS
        if alternatives is not None:
            enough = [*alternatives, *({codename} for needed in alternatives for codename in needed)]
            named = {" ".join(sorted(each)): each for each in enough}
            for each in product(*alternatives):
                named[f"all but {' '.join(each)}"] = set(codenames).difference(each)
        for name, permissions in {NO_PERMISSION: set(), **named}.items():
            staff.user_permissions.set(app_permissions().filter(codename__in=permissions))
            yield name, client, permissions
        yield SUPERUSER, client_of(make_user("root", is_staff=True, is_superuser=True)), set(codenames)

    return yield_all


@pytest.fixture
def rows(user, settings):
    """One row of each kind, each with ``SECRET`` in it; returns what paths and forms need to name them."""
    schedules = {SECRET: {"task": "tests.jobs.tasks.noop", "every": timedelta(days=1)}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules, "WEBHOOKS": True}
    call_command("notifications", "schedules", "list", stdout=StringIO())
    id = tasks.fail.using(owner=user, title=SECRET).enqueue(SECRET).id
    run_jobs()
    now = timezone.now()
    alert = Alert.objects.create(kind="wait", subject=SECRET, opened_at=now, seen_at=now)
    worker = Worker.objects.create(
        host=SECRET, process="", started_at=now, lease_until=now + timedelta(seconds=15), concurrency=1
    )
    broadcast = Broadcast.objects.create(
        title=SECRET, level="info", audience_kind="staff", recipients=1, state="sent", created_at=now
    )
    job = Job.objects.get(pk=id)
    location = job.attempts.get().location
    exception = job.attempts.get().exception_class_path
    since = (now - timedelta(hours=1)).isoformat()
    group = {"task_path": job.task_path, "exception": exception, "location": location, "since": since}
    notification = Notification.objects.get().pk
    type(user).objects.filter(pk=user.pk).update(email="ada@users.example")
    delivery = Delivery.objects.create(
        notification=notification, user=user, channel="email", state="sent", due_at=now, ended_at=now
    )
    return {
        "job": job.pk,
        "notification": notification,
        "delivery": delivery.pk,
        "alert": alert.pk,
        "worker": worker.pk,
        "broadcast": broadcast.pk,
        "preference": Preference.objects.create(
            user=user, category=SECRET, channel="email", choice="off", changed_at=now
        ).pk,
        "limit": Limit.objects.create(key=SECRET, name="partner", used_at=now).pk,
        "schedule": Schedule.objects.get().pk,
        "webhookendpoint": WebhookEndpoint.objects.create(pk=WEBHOOK, **WEBHOOK_VALUES).pk,
        "fields": group,
    }


def path_of(template, rows):
    return folder_of(template) + template.format(**rows, group=urlencode(rows["fields"]))


def folder_of(name):
    """Return the folder of a model's pages, which follows the label of its app."""
    return FOLDERS.get(re.match(r"[a-z]+", name)[0], ADMIN)


def is_enough(permissions, alternatives):
    return any(needed <= permissions for needed in alternatives)


def test_the_table_has_each_url():
    """A page that is added to the admin needs a row here."""
    known = {name.partition("?")[0] for name in PAGES}
    names = {
        key.removeprefix(f"{model._meta.app_label}_")
        for model in admin.site._registry
        if model._meta.app_label.startswith("notifications")
        for pattern in admin.site._registry[model].get_urls()
        if (key := pattern.name)
    }
    assert names <= known, names - known


@pytest.mark.parametrize("name", PAGES)
def test_page(name, people, rows):
    """Others are sent to sign in, or get 403, and neither shows anything of any row."""
    template, alternatives = PAGES[name]
    path = path_of(template, rows)
    found, expected = {}, {}
    for person, client, permissions in people(alternatives):
        if person in (ANONYMOUS, PLAIN_USER):
            expected[person] = 302
        else:
            allowed = 405 if name in POST_ONLY else 302 if name in REDIRECTS else 200
            expected[person] = allowed if is_enough(permissions, alternatives) else 403
        response = client.get(path)
        found[person] = response.status_code
        if response.status_code == 200 and not name.endswith(
            ("history", "figures", "retry", "state", "rows", "_add")
        ):
            assert SECRET in response.text or "overview" in name, f"{person} sees nothing"
        if response.status_code != 200:
            assert SECRET not in re.sub(r'(value|href|action)="[^"]*"', "", response.text), person
            assert "tests.jobs.tasks" not in response.text, person
    assert found == expected


@pytest.mark.parametrize("name", ACTIONS)
def test_action(name, people, rows):
    """Without the permission nothing is changed, logged or enqueued, whatever page is answered."""
    template, state, form, alternatives = ACTIONS[name]
    path = path_of(template, rows)
    of_overview = re.match("overview/(worker|alert)/", template)
    selected = "" if template.startswith("overview") else rows[re.match(r"\w+", template)[0]]
    if of_overview:
        form = {"id": rows[of_overview[1]], **form}
    form = {"name": "default", **form, "confirmed": "1", "_selected_action": selected, **rows["fields"]}
    found, expected = set(), set()
    before = prepare(state)
    for person, client, permissions in people(alternatives):
        question = client.post(path, {name: form[name] for name in form if name != "confirmed"})
        counted = re.search(r'name="counted" value="([^"]*)"', question.text)
        client.post(path, form | ({"counted": counted[1]} if counted else {}))
        if is_enough(permissions, alternatives):
            expected.add(person)
        if state_of_all() != before or LogEntry.objects.exists():
            found.add(person)
            before = prepare(state)
    assert found == expected


def prepare(state):
    """Bring the rows into the state before an action, and return state_of_all()."""
    LogEntry.objects.all().delete()
    Job.objects.exclude(title=SECRET).delete()
    later = timezone.now() + timedelta(days=1)
    Job.objects.update(
        state="queued" if state == "delayed" else "failed" if state == "paused" else state,
        run_after=later if state == "delayed" else None,
        due_at=later if state == "delayed" else None,
        finished_at=None if state in ("queued", "delayed") else timezone.now(),
        attempt=1,
    )
    Delivery.objects.update(state="sent", job=None)
    Broadcast.objects.exclude(title=SECRET).delete()
    Broadcast.objects.update(state="sent", withdrawal_job=None)
    WebhookEndpoint.objects.exclude(pk=WEBHOOK).delete()
    off_at = timezone.now() if state == "paused" else None
    WebhookEndpoint.objects.update_or_create(defaults={**WEBHOOK_VALUES, "off_at": off_at}, pk=WEBHOOK)
    Schedule.objects.update(paused_at=timezone.now() if state == "paused" else None)
    Queue.objects.update_or_create(name="default", defaults={"paused_at": off_at})
    Worker.objects.update(request="")
    Alert.objects.update(acknowledged_at=None)
    return state_of_all()


def state_of_all():
    columns = ("state", "run_after", "title", "fence", "cancel_requested_at")
    return (
        list(Job.objects.order_by("pk").values_list("pk", *columns)),
        list(Schedule.objects.values_list("name", "paused_at")),
        list(Alert.objects.values_list("pk", "detail", "acknowledged_at")),
        list(Queue.objects.values_list("name", "paused_at")),
        list(Worker.objects.values_list("pk", "request")),
        list(Delivery.objects.values_list("pk", "state", "job")),
        list(WebhookEndpoint.objects.order_by("pk").values_list("pk", "url", "secret", "off_at")),
        list(Broadcast.objects.order_by("pk").values_list("pk", "title", "state")),
        list(Notification.objects.filter(title=SECRET).values_list("pk", "title")),
    )


def test_details_of_a_job(people, rows):
    """Each part of the page of a job has its own permission."""
    for person, client, permissions in people():
        if not is_enough(permissions, VIEW_JOBS):
            continue
        text = client.get(f"{ADMIN}job/{rows['job']}/change/").text
        main = text[text.index('id="content"') :]  # without the list of models beside it
        found = {pattern for pattern in DETAILS if re.search(pattern, main)}
        assert found == {pattern for pattern, needed in DETAILS.items() if needed <= permissions}, person


def test_index_links_only_to_pages_that_open(people, rows):
    """The index of the admin and that of the app have a link to a list if and only if it opens."""
    lists = {name: path_of(*PAGES[name][:1], rows) for name in PAGES if name.endswith("_changelist")}
    for person, client, permissions in people():
        if person in (ANONYMOUS, PLAIN_USER):
            continue
        expected = {path for name, path in lists.items() if is_enough(permissions, PAGES[name][1])}
        text = client.get("/admin/").text
        assert {path for path in lists.values() if f'href="{path}"' in text} == expected, person
        assert SECRET not in text


def test_index_lists_the_optional_apps_in_one_section(admin_client, viewer):
    """As the sidebar does. A single one keeps its name."""
    page = admin_client.get("/admin/").text
    content = page[page.index('id="content"') :]
    assert re.findall(r'class="app-(notifications\w*)', content) == ["notifications"]
    section = content[content.index('class="app-notifications') :]
    assert re.findall(r'scope="row"[^>]*>\s*<a [^>]*>(\w+)</a>', section)[:3] == [
        "Alerts",
        "Broadcasts",
        "Jobs",
    ]
    [name] = re.findall(r"<caption>\s*<a [^>]*>\s*([^<]*?)\s*</a>", viewer("broadcast").get("/admin/").text)
    assert name == "Broadcasts"


def yield_fields(row):
    """Yield the lookup path and value of each field of a row, and the paths of the fields of related rows."""
    for field in row._meta.get_fields():
        if field.concrete:
            yield field.name, getattr(row, field.attname)
        if field.is_relation:
            for related in field.related_model._meta.concrete_fields:
                yield f"{field.name}__{related.name}", SECRET


@pytest.fixture
def viewer(make_user, client_of):
    """Return a client of staff who may view the rows of one model, and nothing else."""

    def sign_in(name):
        staff = make_user("viewer", is_staff=True)
        staff.user_permissions.set(app_permissions().filter(codename=f"view_{name}"))
        return client_of(staff)

    return sign_in


def test_every_list_has_its_filters():
    names = {
        model._meta.model_name
        for model in admin.site._registry
        if model._meta.app_label.startswith("notifications")
    }
    assert names == {*FILTERS, *WITHOUT_LIST}


@pytest.fixture
def short_refusals(monkeypatch, settings):
    """Answer refused requests without a page and a line of the log, which take half of their time."""
    urls = import_module(settings.ROOT_URLCONF)
    monkeypatch.setattr(
        urls, "handler400", lambda request, exception: HttpResponseBadRequest(), raising=False
    )
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


@pytest.mark.nightly_names("*[job]")
@pytest.mark.parametrize(
    "name",
    [name if name in ("job", "limit") else pytest.param(name, marks=pytest.mark.nightly) for name in FILTERS],
)
def test_lookups_by_the_address_of_a_list(name, viewer, rows, short_refusals):
    """Only the declared filters are accepted: any other lookup would tell what a field holds that no page shows."""
    client, path = viewer(name), f"{folder_of(name)}{name}/"
    model = next(
        model
        for model in admin.site._registry
        if model._meta.app_label.startswith("notifications") and model._meta.model_name == name
    )
    fields = list(yield_fields(model.objects.get(pk=rows[name])))
    if name == "job":
        assert {"kwargs", "error", "attempts__traceback", "user__password"} <= {field for field, _ in fields}
    accepted = []
    for field, value in fields:
        for lookup, texts in LOOKUPS.items() if "__" not in field else [*LOOKUPS.items()][:2]:
            if (parameter := field + lookup) in FILTERS[name]:
                continue
            values = {"value": value, "start": re.escape(str(value)[:3])}
            answers = [client.get(path, {parameter: text.format(**values)}) for text in texts]
            if {(answer.status_code, answer.headers.get("Location")) for answer in answers} != {(400, None)}:
                accepted.append(parameter)
        if field != model._meta.pk.name:
            assert client.get(path, {"_to_field": field}).status_code == 400, field
            page = f"{path}{value}/change/" if value else f"{path}{rows[name]}/change/"
            assert client.get(page, {"_to_field": field}).status_code in (400, 404), field
    assert not accepted
    assert client.get(path, {"utm_source": "mail"}).status_code in (302, 400)


@pytest.mark.parametrize("name", FILTERS)
def test_order_and_search_use_what_the_list_shows(name, viewer, rows):
    client = viewer(name)
    page = client.get(f"{folder_of(name)}{name}/")
    model_admin = page.context["cl"].model_admin
    shown = {
        *page.context["cl"].list_display,
        *flatten_fieldsets(model_admin.get_fieldsets(page.wsgi_request)),
    }
    ordered = {*model_admin.ordering, "-pk", "pk"}
    for number in range(len(page.context["cl"].list_display) + 3):
        for sign in ("", "-"):
            found = client.get(f"{folder_of(name)}{name}/", {"o": f"{sign}{number}"}).context["cl"].queryset
            assert {field.lstrip("-") for field in found.query.order_by if field not in ordered} <= shown | {
                field.lstrip("-") for field in ordered
            } | {"next_tick"}
    assert {field.strip("=^@") for field in model_admin.search_fields} <= {*shown, "id", "task_path", "title"}
    assert model_admin.date_hierarchy is None


def test_a_pattern_is_not_matched(viewer, rows):
    """On SQLite this pattern takes seconds of the process for a title of 26 characters."""
    Job.objects.update(title="a" * 40 + "!")
    assert viewer("job").get(f"{ADMIN}job/", {"title__regex": "(a+)+$"}).status_code == 400


@pytest.mark.parametrize("name", FILTERS)
def test_pages_show_no_rows_of_other_models(name, viewer, rows):
    """Each part that comes from the rows of another model needs the permission to view that model."""
    Notification.objects.update(title="text-of-notification", broadcast=rows["broadcast"])
    Broadcast.objects.update(title="text-of-broadcast")
    Attempt.objects.update(exception_class_path="text-of-attempt")
    Alert.objects.update(subject="text-of-alert")
    Job.objects.update(title="text-of-job")
    client = viewer(name)
    address = f"{folder_of(name)}{name}/"
    for path in (address, f"{address}{rows[name]}/change/"):
        assert set(re.findall(r"text-of-(\w+)", client.get(path).text)) <= {name}, path


def test_lists_with_pages_link_to_them():
    """Each app with an admin of rows with users has the template of the links."""
    labels = {each.opts.app_label for each in admin.site._registry.values() if isinstance(each, OwnedMixin)}
    assert {"notifications", "notifications_webhooks"} <= labels
    for label in labels:
        get_template(f"admin/{label}/pagination.html")
