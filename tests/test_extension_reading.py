"""Extensions: their settings, URLs, and what they show of a job and delete by its age."""

import json
import re
import sys
from datetime import timedelta
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.template import engines
from django.test import modify_settings, override_settings
from django.urls import include, path

from notifications import api, checks, conf, extension, stored_times, testing, times
from notifications.contrib.broadcasts.apps import Broadcasts
from notifications.db.clock import StoredTime
from notifications.extension import Event, Extension, JobSection, PageButton, Pruned, Setting, moved
from notifications.jobs import step_list
from notifications.jobs.step_list import StoredStep, read_steps
from notifications.models import Job, Notification, SeenMark, Stream, Wait
from notifications.streams.retention import count_prunable
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.jobs import tasks

PAGE, ADMIN = "shop/part.html", "admin/shop/part.html"


class Part(JobSection):
    name = "part"
    page_template, admin_template = PAGE, ADMIN

    def page_context(self, job, request):
        return {"part": f"Part of {job.pk} for {request.user.username}"}

    def admin_context(self, job, request):
        return {"part": f"Part of {job.pk} for {request.user.username}"}

    def lines(self, job):
        return ["", f"Part of {job.pk}"]

    def item(self, job):
        return {"id": str(job.pk)}


class Shop(Extension):
    name, label = "notifications.testing", "shop"
    settings = {
        "SHOP": Setting([], is_valid=all, rule="a list of names"),
        "SHOP_KEY": Setting("", is_secret=True),
    }
    job_sections = (Part(),)

    def events_of(self, subject, reader):
        return [Event(None, "Will be sent"), Event(subject.created_at, f"Sold to {reader}")]

    def steps_of(self, job, limit, *, with_results):
        took = timedelta(seconds=1)
        sales = [
            StoredStep(
                name=f"sale {number}",
                attempt=1,
                started_at=job.started_at - number * took,
                took=took,
                result="sold" if with_results else None,
            )
            for number in range(3)
        ]
        return sales[:limit], len(sales)

    def pruned(self):
        return [Pruned(SeenMark, "at", "receipts")]

    def page_links(self, page):
        return [(f"Shop & {page}", "/shop/")]

    def row_buttons(self, row):
        return [PageButton(f"Hide “{row.title}”", "mute", "/hide/", "row", str(row.pk))]

    def describe_change(self, user, change):
        undo = PageButton("Show it", "", "/show/", "row", str(user))
        return ("It is hidden.", undo) if change == "hidden" else None

    def time_zone_of(self, user):
        return "Asia/Tokyo"

    def admin_section(self, model_admin, request, row):
        return ADMIN, {"part": f"Part of {row.pk} for {request.user.username}"}

    def stored_times(self, now):
        return [StoredTime(model=SeenMark, name="at")]


@pytest.fixture
def shop(monkeypatch):
    """An extension that is installed beside those of the app."""
    shop, installed = Shop(Shop.name, testing), extension.hooks
    monkeypatch.setattr(conf, "SETTINGS", conf.SETTINGS)
    monkeypatch.setattr(installed, "__dict__", dict(installed.__dict__))
    others = extension.extensions()
    monkeypatch.setattr(extension.installed, "extensions", lambda: [*others, shop])
    extension.load()
    return shop


@pytest.fixture
def job(transactional_db, user, shop):
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    return Job.objects.get()


def test_steps(job, monkeypatch):
    """They are listed with waits in the order in which they ended, without results for the owner of the job."""
    wait = {"created_at": job.started_at, "ended_at": job.started_at, "how": "due", "attempt": 1}
    Wait.objects.create(job=job.pk, name="nap", kind="pause", **wait)
    listed = read_steps(job, with_results=True)
    assert [step.name for step in listed.first] == ["sale 2", "sale 1", "nap", "sale 0"]
    assert [step.result for step in listed.first] == ["sold", "sold", "Due", "sold"]
    monkeypatch.setattr(step_list, "MAX_STEPS_SHOWN", 1)
    listed = read_steps(job, with_results=False)
    assert ([(step.name, step.result) for step in listed.first], listed.count) == ([("nap", None)], 4)


def test_a_setting(shop, settings):
    assert conf.settings.SHOP == []
    settings.NOTIFICATIONS = {"SHOP": ["Ada"]}
    assert conf.settings.SHOP == ["Ada"] and checks.check_settings(None) == []
    settings.NOTIFICATIONS = {"SHOP": [""]}
    assert "It must be a list of names." in checks.check_settings(None)[0].msg
    settings.NOTIFICATIONS = {"SHOP_KEY": 123}
    with pytest.raises(ImproperlyConfigured, match="is of another type"):
        _ = conf.settings.SHOP_KEY


def test_a_setting_of_an_app_that_is_not_installed(monkeypatch, settings):
    known = {key: setting for key, setting in conf.SETTINGS.items() if key != "USER_LANGUAGE"}
    monkeypatch.setattr(conf, "SETTINGS", known)
    settings.NOTIFICATIONS = {"USER_LANGUAGE": "", "TYPO": 1}
    missing, unknown = checks.check_settings(None)
    assert (
        missing.hint == 'Add "notifications.contrib.broadcasts" to INSTALLED_APPS, and run manage.py migrate.'
    )
    assert unknown.hint.startswith("Known keys: ACTIVE_JOBS_PER_USER, ")
    assert {missing.id, unknown.id} == {"notifications.E002"}


def test_names_of_the_table_belong_to_the_app():
    assert set(Broadcasts.settings) == {key for key, app in moved.SETTINGS.items() if app == "broadcasts"}
    for name in moved.API_NAMES:
        assert getattr(api, name)
    for name in moved.TESTING_NAMES:
        assert getattr(testing, name)
    for module in (api, testing):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = module.nothing


@pytest.mark.parametrize("arguments", [["sell"], ["sell", "--all", "1"], ["jobs", "sell", "--all"]])
def test_a_command_of_an_app_that_is_not_installed(arguments, monkeypatch):
    monkeypatch.setattr(moved, "SUBCOMMANDS", {"sell": "shop", "jobs sell": "shop"})
    with pytest.raises(CommandError, match=r'Add "notifications\.contrib\.shop" to INSTALLED_APPS'):
        call_command("notifications", *arguments)


def test_urls_are_found(monkeypatch):
    urls = ModuleType("notifications.testing.urls")
    urls.urlpatterns = [path("shop/", lambda request: HttpResponse("open"), name="shop")]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    monkeypatch.setattr(extension.installed, "extensions", lambda: [Shop(Shop.name, testing)])
    monkeypatch.setattr(extension.installed, "module_has_submodule", lambda module, name: name == "urls")
    assert [pattern.name for pattern in extension.find_urlpatterns()] == ["shop"]


def test_an_excerpt_of_a_job(transactional_db, user, other_user, client, shop, monkeypatch):
    """Those whom a job asks see it on the page of the question."""
    monkeypatch.setattr(Part, "excerpt_template", "notifications/output_lines.html")
    monkeypatch.setattr(Part, "excerpt_context", lambda self, job: {"lines": [("", f"Of {job.title}")]})
    job = question_tasks.ask_sync.using(owner=user, title="Order 7").enqueue(to=[other_user.pk])
    run_jobs()
    client.force_login(other_user)
    page = client.get(f"/notifications/jobs/{job.id}/questions/{Wait.objects.get().pk}/")
    assert "Of Order 7" in page.text


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


def test_rows_that_are_pruned(transactional_db, shop):
    assert ("receipts", 0) in count_prunable(times.now() - timedelta(days=1))


@pytest.mark.django_db
def test_stored_times(shop, user):
    """One that is impossible is named and replaced."""
    SeenMark.objects.create(user=user, up_to=1, at=times.now() + timedelta(days=1))
    assert [wrong.field for wrong in stored_times.find_wrong_times()] == ["at"]
    assert list(stored_times.repair_wrong_times()) == [(f"{SeenMark._meta.verbose_name}: at", 1)]
    assert SeenMark.objects.get().at <= times.now()


@pytest.fixture
def notification(transactional_db, user):
    (id,) = api.notify(user, "Hello")
    return Notification.objects.get(pk=id)


def test_parts_of_the_inbox(notification, user, client, shop):
    """Links, buttons beside a notification, and the message after their forms."""
    client.force_login(user)
    inbox = client.get("/notifications/?changed=hidden").text
    page = client.get(f"/notifications/{notification.pk}/").text
    assert '<a href="/shop/">Shop &amp; inbox</a>' in inbox
    assert '<a href="/shop/">Shop &amp; notification</a>' in page
    for text in (inbox, page):
        assert f'name="row" value="{notification.pk}" formaction="/hide/"' in text and "Hide “Hello”" in text
    assert "It is hidden." in inbox
    assert re.search(f'action="/show/">.*?name="row" value="{user.pk}">Show it<', inbox, re.DOTALL)
    assert "It is hidden." not in client.get("/notifications/?changed=shown").text


def test_time_zone_of_a_reader(notification, user, client, monkeypatch, shop):
    """Without the help of a script, a notification is snoozed until the morning there."""
    monkeypatch.setattr(extension.hooks, "time_zone_of", [shop.time_zone_of])
    client.force_login(user)
    form = {"until": f"tomorrow.{notification.pk}", "up_to": Stream.objects.get(user=user).head}
    assert client.post("/notifications/snooze/", form).status_code == 303
    notification.refresh_from_db()
    assert notification.snoozed_until.astimezone(ZoneInfo("Asia/Tokyo")).hour == 8


def test_a_section_of_a_notification(notification, admin_client, shop, monkeypatch):
    loader = engines["django"].engine.find_template
    template = engines["django"].from_string("<b>{{ section.part }}</b>").template
    monkeypatch.setattr(
        engines["django"].engine,
        "find_template",
        lambda name, *args, **kwargs: (template, None) if name == ADMIN else loader(name, *args, **kwargs),
    )
    page = admin_client.get(f"/admin/notifications/notification/{notification.pk}/change/").text
    assert f"<b>Part of {notification.pk} for admin</b>" in page


def test_apps_of_one_test(settings):
    """A project's test may install others: afterwards those from before are in effect again, with their hooks."""
    before = list(extension.hooks.extensions)
    with modify_settings(INSTALLED_APPS={"remove": ["notifications.contrib.output"]}):
        assert "notifications_output" not in {each.label for each in extension.hooks.extensions}
    assert extension.hooks.extensions == before == extension.extensions()


def test_a_base_class_of_extensions():
    """Django takes one class of a module, which it is not."""

    class Base(Extension):
        default = False

    class Mine(Base):
        name = "mine"

    assert (Base.default, Mine.default, Shop.default) == (False, True, True)


def test_the_document_of_a_mount_that_is_not_ascii(client, monkeypatch):
    urls = ModuleType("mounted")
    urls.urlpatterns = [path("ü/", include("notifications.urls"))]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    with override_settings(ROOT_URLCONF="mounted"):
        document = client.get("/ü/api/openapi.json").json()
    assert "/jobs/" in str(list(document["paths"]))
