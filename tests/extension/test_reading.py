"""Extensions: their settings, URLs, and what they show of a job and delete by its age."""

import json
import re
import sys
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.template import engines
from django.test import override_settings
from django.urls import include, path

import tests.extension
from notifications import api, conf, extension
from notifications.extension import Extension, Fact, PageButton, import_later
from notifications.extension.installed import Hooks
from notifications.inbox import return_to_inbox
from notifications.models import Job, Notification, Stream, Wait
from notifications.testing import run_jobs
from tests.extension import faulty
from tests.extension.shop import ADMIN, PAGE, Part
from tests.jobs import tasks
from tests.support.checks import system_checks
from tests.support.shown_jobs import show_job

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture
def job(transactional_db, user, shop):
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    return Job.objects.get()


def test_steps(job):
    """They are listed with waits in the order in which they ended."""
    wait = {"created_at": job.started_at, "ended_at": job.started_at, "how": "due", "attempt": 1}
    Wait.objects.create(job=job.pk, name="nap", kind="pause", **wait)
    listed = show_job(job.pk)["steps"]
    assert [step["name"] for step in listed] == ["sale 2", "sale 1", "nap", "sale 0"]
    assert [step["result"] for step in listed] == ['"sold"', '"sold"', "Due", '"sold"']


def test_a_setting(shop, settings):
    assert conf.settings.SHOP == []
    settings.NOTIFICATIONS = {"SHOP": ["Ada"]}
    shop.apps, shop.models = apps, {}  # as Django does
    assert conf.settings.SHOP == ["Ada"] and "SHOP" not in str(system_checks())
    settings.NOTIFICATIONS = {"SHOP": [""]}
    [error] = [message for message in system_checks() if "SHOP" in message.msg]
    assert "It must be a list of names." in error.msg
    settings.NOTIFICATIONS = {"SHOP_KEY": 123}
    with pytest.raises(ImproperlyConfigured, match="is of another type"):
        _ = conf.settings.SHOP_KEY


def test_a_section_of_a_job(job, user, client, admin_client, monkeypatch, capsys):
    """On the page of the job, in the admin, and by a command."""
    loader = engines["django"].engine.find_template
    template = engines["django"].from_string("<b>{{ part }}</b>").template

    def find(name, *args, **kwargs):
        return (template, None) if name in (PAGE, ADMIN) else loader(name, *args, **kwargs)

    monkeypatch.setattr(engines["django"].engine, "find_template", find)
    client.force_login(user)
    assert f"<b>Part of {job.pk} for {user.username}</b>" in client.get(f"/notifications/jobs/{job.pk}/").text
    notification = f"/notifications/{Notification.objects.get().pk}/"
    assert "part" in client.get(notification).context
    monkeypatch.setattr(Part, "is_in_pane", False)
    assert "part" not in client.get(notification).context
    page = admin_client.get(f"/admin/notifications/job/{job.pk}/change/").text
    assert f"<b>Part of {job.pk} for admin</b>" in page
    assert page.index("Sold to None") < page.index("Will be sent")
    call_command("notifications", "jobs", "show", str(job.pk))
    printed = capsys.readouterr().out
    assert f"\nPart of {job.pk}\n" in printed and "Sold to None" in printed
    call_command("notifications", "jobs", "show", str(job.pk), "--json")
    assert json.loads(capsys.readouterr().out)["part"] == {"id": str(job.pk)}


def test_rows_that_are_pruned(transactional_db, shop, capsys):
    call_command("notifications", "prune", dry_run=True)
    assert "0 seen marks would be deleted." in capsys.readouterr().out


@pytest.fixture
def notification(transactional_db, user):
    (id,) = api.notify(user, "Hello")
    return Notification.objects.get(pk=id)


def test_parts_of_the_inbox(notification, user, client, shop, rf):
    """Links, buttons beside a notification, and the message after their forms, which is signed."""
    client.force_login(user)
    undo = PageButton("Show it", "", "/show/", "row", str(user.pk))
    request = rf.post("/hide/", {"query": ""})
    request.user = user
    address = return_to_inbox(request, ("It is hidden.", undo))["Location"]
    inbox = client.get(address).text
    page = client.get(f"/notifications/{notification.pk}/").text
    assert '<a href="/shop/">Shop &amp; inbox</a>' in inbox
    assert '<a href="/shop/">Shop &amp; notification</a>' in page
    for text in (inbox, page):
        assert f'name="row" value="{notification.pk}" formaction="/hide/"' in text and "Hide “Hello”" in text
    assert "It is hidden." in inbox
    assert re.search(f'action="/show/">.*?name="row" value="{user.pk}">Show it<', inbox, re.DOTALL)
    assert "It is hidden." not in client.get(f"{address}x").text


def test_time_zone_of_a_reader(notification, user, client, monkeypatch, shop):
    """Without the help of a script, a notification is snoozed until the morning there."""
    monkeypatch.setattr(extension.hooks, "time_zones_of", [shop.time_zones_of])
    client.force_login(user)
    form = {"until": f"tomorrow.{notification.pk}", "up_to": Stream.objects.get(user=user).head}
    assert client.post("/notifications/snooze/", form).status_code == 303
    notification.refresh_from_db()
    assert notification.snoozed_until.astimezone(ZoneInfo("Asia/Tokyo")).hour == 8
    faulty.install(monkeypatch, "time_zones_of", fault=lambda users: dict.fromkeys(users, "Asia/Tokyo"))
    assert client.post("/notifications/snooze/", form).status_code == 303


def test_a_base_class_of_extensions():
    """Django takes one class of a module, which it is not."""

    class Base(Extension):
        default = False

    class Mine(Base):
        name = "mine"

    assert (Base.default, Mine.default) == (False, True)


def test_the_document_of_a_mount_that_is_not_ascii(client, monkeypatch):
    urls = ModuleType("mounted")
    urls.urlpatterns = [path("ü/", include("notifications.urls"))]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    with override_settings(ROOT_URLCONF="mounted"):
        document = client.get("/ü/api/openapi.json").json()
    assert "/jobs/" in str(list(document["paths"]))


def test_parts_of_notifications(user, user_client, recorder):
    """Those of the rows of a list at once. Pages and messages show what is for them."""
    ids = [id for title in ("One", "Other") for id in api.notify(user, title)]
    recorder.returned["parts"] = {ids[0]: ["Because & so"], ids[1]: [Fact("Weather", "Rain & sun")]}
    recorder.calls.clear()
    assert "Rain" not in user_client.get("/notifications/").text
    assert recorder.calls == [("parts_of a list", 2, False)]
    recorder.calls.clear()
    pages = [user_client.get(f"/notifications/{id}/").text for id in ids]
    assert recorder.calls == [("parts_of a page", 1, False)] * 2
    assert ["Because &amp; so" in page for page in pages] == [True, False]
    assert ["Rain &amp; sun" in page for page in pages] == [False, True]
    row = Notification.objects.get(pk=ids[1])
    assert extension.hooks.read_facts(row, user, "email") == [Fact("Weather", "Rain & sun")]


def say_categories(rows, reader, place):
    """As a hook, with ``reader`` to record calls."""
    reader.append(len(rows))
    return {row.pk: [row.category] for row in rows}


def test_rows_of_a_hook():
    """One that is imported later is called with rows that have something in its column, and not without any."""

    class Categories(Extension):
        name, label = "tests.extension", "categories"
        parts_of = import_later("test_reading.say_categories", rows_with="category")

    (hook,) = Hooks([Categories("tests.extension", tests.extension)]).parts_of
    rows, calls = [Notification(category=category) for category in ("", "sales", "")], []
    assert hook(rows, calls, "list") == {rows[1].pk: ["sales"]}
    assert hook(rows[:1], calls, "list") == {}
    assert calls == [1]
