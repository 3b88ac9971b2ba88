"""Examples of the documentation, executed as they stand in the pages."""

import ast
import re
import sys
from types import ModuleType, SimpleNamespace
from uuid import uuid4

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group
from django.urls import include, path

from asyncsite.service_urls import SQLITE_OPTIONS
from notifications import api
from notifications.api import jobs_of
from notifications.models import Job, Notification
from tests import documented
from tests.docs.pages import DOCS, README, blocks, code
from tests.jobs import tasks


@pytest.fixture
def user(make_user):
    """Return a user with an address, which an example sends an email to."""
    return make_user("ada", email="ada@example.com")


@pytest.fixture
def execute(monkeypatch):
    """Executes a block as a module in which jobs find its tasks, and returns the module."""

    def execute(block, **placeholders):
        name = f"example_{uuid4().hex}"  # found tasks are cached by their path
        module = ModuleType(name)
        vars(module).update(placeholders)
        monkeypatch.setitem(sys.modules, name, module)
        exec(block, vars(module))
        return module

    return execute


class Report:
    """Stands for the model of the examples."""

    pk = 7

    class objects:
        @staticmethod
        def create(**fields):
            return Report()

    def get_absolute_url(self):
        return "/reports/7/"


def test_sqlite_options_are_those_of_the_site():
    """The options that the tests run with."""
    for page, heading in (("install.md", "SQLite"), ("production-one-machine.md", "Settings")):
        [options] = re.findall(
            r'"OPTIONS": (\{\s+"init_command".*?\})', code(f"how-to/{page}", heading), re.S
        )
        assert ast.literal_eval(options) == SQLITE_OPTIONS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", [README, DOCS / "how-to/enqueue.md"], ids=lambda page: page.name)
def test_view_enqueues_for_a_post_only(page, rf, user, execute):
    """GET: 405 and no job. POST: 202 and one job."""
    [example] = [block for block in blocks(page, "python") if "return accepted(" in block]
    names = execute(
        example, collect=None, urls=["http://10.0.0.1/"], Report=Report, check_urls=documented.make_report
    )
    view, arguments = (names.export_view, [2026]) if page == README else (names.reports, [])
    for method, status in (("get", 405), ("post", 202)):
        request = getattr(rf, method)("/")
        request.user = user
        assert view(request, *arguments).status_code == status
        assert Job.objects.count() == (status == 202)


@pytest.mark.django_db
def test_job_is_enqueued_without_a_view(user, execute):
    """With the owner, title and URL of the example."""
    block = code("how-to/enqueue.md", "Without a view")
    execute(block, Report=Report, urls=[], user=user, check_urls=documented.make_report)
    [job] = jobs_of(user)
    assert (job.title, job.url) == ("Check 40 URLs", "/reports/7/")


def test_a_task_starts_processes_that_use_the_database(site, tmp_path):
    """In a worker, which logs no fork."""
    resize = (
        "def resize(id):\n    from notifications.models import Job\n    return [id, Job.objects.count()]\n"
    )
    example = code("how-to/enqueue.md", "Processes and programs")
    (tmp_path / "photos.py").write_text(resize + example)
    site.environment |= {"PYTHONPATH": str(tmp_path), "EMBEDDED_WORKER": "0"}
    site.python("from photos import resize_photos; resize_photos.enqueue([7, 8])")
    worker = site.start("worker", "manage.py", "run_jobs", "--until-idle")
    assert worker.popen.wait(90) == 0, worker.output
    assert site.rows("SELECT state, result FROM notifications_job") == [("succeeded", "[[7,1],[8,1]]")]
    assert "forks" not in worker.output


@pytest.mark.django_db
def test_tasks_report_progress(user, execute, run_jobs):
    """Both of the page: by ``progress()`` and by ``track()``."""
    [block] = blocks(DOCS / "how-to/progress.md", "python", "Progress")
    names = execute(block, collect=lambda year, month: None)
    names.export.using(owner=user).enqueue(2026)
    names.import_rows.using(owner=user).enqueue([1, 2, 3])
    run_jobs()
    assert {(job.state, job.progress_current, job.progress_total) for job in jobs_of(user)} == {
        ("succeeded", 12, 12),
        ("succeeded", 3, 3),
    }


@pytest.mark.django_db
def test_batch_counts_its_jobs(user, execute, run_jobs, monkeypatch):
    """``join()`` would wait for a worker, so the jobs run before it."""
    join = api.join
    monkeypatch.setattr("notifications.api.join", lambda batch: run_jobs() and join(batch))
    block = blocks(DOCS / "how-to/batches.md", "python")[0]
    sites = [SimpleNamespace(pk=pk) for pk in range(40)]
    names = execute(block, user=user, sites=sites, check=documented.make_report)
    assert names.counts == {"succeeded": 40, "failed": 0, "cancelled": 0}
    assert [notification.title for notification in Notification.objects.all()] == ["Check 40 sites"]


@pytest.mark.django_db
def test_notify_takes_one_user_or_many(user, execute, make_user):
    """One user, a queryset, and a group."""
    staff = make_user("bob", is_staff=True)
    member = make_user("cid")
    member.groups.add(Group.objects.create(name="Shop"))
    execute(blocks(DOCS / "how-to/notify.md", "python")[0], user=user)
    notifications = Notification.objects.order_by("id").values_list("user_id", "title")
    assert list(notifications) == [
        (user.pk, "Export ready"),
        (staff.pk, "The import has stopped"),
        (member.pk, "Order 7 has been paid"),
    ]


@pytest.mark.django_db
def test_notify_function_changes_or_omits_the_notification(user, execute, run_jobs):
    """Rows: a body. No rows: no notification. ``JobError``: its text."""
    files = {"a.csv": [1, 2], "empty.csv": [], "bad.csv": None}
    names = execute(code("how-to/notify.md", "Notifications of jobs"), rows_of=files.get)
    for file in files:
        names.import_rows.using(owner=user).enqueue(file)
    run_jobs()
    notifications = Notification.objects.order_by("id").values_list("title", "body")
    assert list(notifications) == [
        ("Import a.csv", "2 rows"),
        ("Import bad.csv", "The file has no header. Add one and import it again."),
    ]


@pytest.mark.django_db
def test_test_of_a_view_passes(client, user, settings, execute, monkeypatch):
    """The task and the view are those of the page that it names."""
    monkeypatch.setattr(Report, "pk", 1)
    page = "how-to/enqueue.md"
    view = execute(
        code(page, "Declare the task") + code(page, "Enqueue it"), Report=Report, urls=["http://10.0.0.1/"]
    ).reports
    urls = [path("reports/", view), path("notifications/", include("notifications.urls"))]
    settings.ROOT_URLCONF = execute("", urlpatterns=urls).__name__
    names = {}
    exec(code("how-to/testing.md", "Test a view"), names)
    names["test_report_notifies_its_owner"](client, user)


@pytest.mark.parametrize(
    "heading", ["Run jobs", "Move the clock", "Capture notifications", "Connect a client"]
)
def test_tests_of_the_page_pass(heading, request, transactional_db, user):
    """With the tasks that they name, and the fixtures of the plugin."""
    names = dict(vars(documented))
    exec(code("how-to/testing.md", heading), names)
    if heading == "Run jobs":
        test = names["ReportTests"]("test_make_report")
        test.user = user
        return test.test_make_report()
    [example] = [value for name, value in names.items() if name.startswith("test_")]
    parameters = example.__code__.co_varnames[: example.__code__.co_argcount]
    example(*(request.getfixturevalue(name) for name in parameters))


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:Django 2028 will not have a default mailer")
def test_handler_sends_a_mail(run_jobs, user, mailoutbox, execute, settings):
    """To the owner of a job that has failed."""
    names = execute(blocks(DOCS / "how-to/handlers.md", "python")[1])
    handlers = {"job.failed": [f"{names.__name__}.mail_failure"]}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": handlers}
    tasks.fail.using(owner=user, title="Import").enqueue()
    tasks.fail.enqueue()
    tasks.noop.using(owner=user).enqueue()
    assert run_jobs() == 5
    assert [(mail.subject, mail.to) for mail in mailoutbox] == [("Failed: Import", [user.email])]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [0, 1])
async def test_channels_routing_reaches_both_consumers(monkeypatch, number):
    """The project's own WebSocket and the app's, in the applications of the examples."""

    async def own_consumer(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    routing, websocket = ModuleType("mysite.routing"), ModuleType("mysite.websocket")
    routing.websocket_urlpatterns = [path("ws/own/", own_consumer)]
    websocket.websocket_application = own_consumer
    monkeypatch.setitem(sys.modules, "mysite", ModuleType("mysite"))
    monkeypatch.setitem(sys.modules, "mysite.routing", routing)
    monkeypatch.setitem(sys.modules, "mysite.websocket", websocket)
    example = blocks(DOCS / "how-to/servers.md", "python", "Your own Channels routing")[number]
    exec(example, names := {})
    own = WebsocketCommunicator(names["application"], "/ws/own/")
    assert await own.connect() == (True, None)
    notifications = WebsocketCommunicator(names["application"], "/ws/notifications/")
    assert await notifications.connect() == (False, 4403)  # no Origin, no session
