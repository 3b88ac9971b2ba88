"""The examples of the documentation are valid Python that imports what exists, and those that can be run pass."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from channels.testing import WebsocketCommunicator
from django.urls import path

from asyncsite.calls import CallResult
from asyncsite.service_urls import SQLITE_OPTIONS
from notifications import api, exceptions, signals, testing
from notifications.api import notify
from notifications.models import Job, Notification
from notifications.signals import notification_recording
from tests import documented
from tests.docs.pages import DOCS, PAGES, README, ROOT, blocks, code

PYTHON_BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"), 1)
]


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_blocks_compile_and_import_what_exists(block):
    """Modules of a project that a page invents are not looked up."""
    tree = compile(block, "example", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                resolve(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                resolve(node.module, alias.name)


IMPORTED_FROM_THE_APP = {
    *api.__all__,
    *testing.__all__,
    *vars(exceptions),
    *vars(signals),
    "User",
    "outbound",
    "transaction",
}

#: Modules of the projects that the pages describe.
INVENTED = {"mysite", "exports", "myapp"}


def resolve(module, name=None):
    """Import a module and a name of it. Raises if one of them does not exist."""
    if module.partition(".")[0] in INVENTED:
        return
    imported = importlib.import_module(module)
    if name and not hasattr(imported, name):
        importlib.import_module(f"{module}.{name}")


def test_public_names_are_imported_where_they_are_used(tmp_path):
    """In each page; a name that stands for the project's own models, tasks and users need not be."""
    for page in PAGES:
        name = "_".join(page.relative_to(ROOT).with_suffix(".py").parts)
        (tmp_path / name).write_text("\n".join(blocks(page, "python")))
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "F821",
        "--output-format",
        "json",
    ]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    undefined = [
        (Path(found["filename"]).name, found["message"].split("`")[1]) for found in json.loads(done.stdout)
    ]
    assert undefined, "Placeholders such as `sites` are expected."
    assert [(page, name) for page, name in undefined if name in IMPORTED_FROM_THE_APP] == []


def test_sqlite_options_are_those_of_the_site():
    """The pages name the options that the tests run with."""
    for page, heading in (("install.md", "SQLite"), ("production-one-machine.md", "Settings")):
        [options] = re.findall(r'"OPTIONS": (\{.*?\})', code(f"how-to/{page}", heading), re.S)
        assert ast.literal_eval(options) == SQLITE_OPTIONS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", [README, DOCS / "how-to/enqueue.md"], ids=lambda page: page.name)
def test_the_examples_of_a_view_take_a_post_only(page, rf, django_user_model):
    """A GET enqueues nothing; a POST is answered 202, and its job succeeds."""
    user = django_user_model.objects.create_user("ada")
    [example] = [block for block in blocks(page, "python") if "return accepted(" in block]
    names = {"__name__": __name__, "collect": lambda year, month: None, "urls": ["http://10.0.0.1/"]}
    names |= {"Report": DocumentedReport, "check_urls": documented.make_report}
    exec(example, names)
    view, arguments = (names["export_view"], [2026]) if page == README else (names["reports"], [])
    for method, status in (("get", 405), ("post", 202)):
        request = getattr(rf, method)("/")
        request.user = user
        assert view(request, *arguments).status_code == status
        assert Job.objects.count() == (status == 202)


class DocumentedReport:
    """Stands for the model of the examples."""

    pk = 7

    class objects:
        @staticmethod
        def create(**fields):
            return DocumentedReport()

    def get_absolute_url(self):
        return "/reports/7/"


@pytest.mark.django_db
def test_the_example_of_a_test_passes(client, django_user_model, monkeypatch):
    """As it stands in the page, with nothing imported besides."""

    async def call(url):
        return CallResult(outcome="ok", status=200, elapsed_ms=1)

    monkeypatch.setattr("asyncsite.tasks.call_url", call)
    names = {}
    exec(code("how-to/testing.md", "Test a view"), names)
    names["test_report_notifies_its_owner"](client, django_user_model.objects.create_user("ada"))


@pytest.mark.parametrize(
    "heading", ["Run jobs", "Move the clock", "Capture notifications", "Connect a client"]
)
def test_the_examples_of_testing_pass(heading, request, transactional_db, django_user_model):
    """With the tasks that they name, and the fixtures of the plugin."""
    user = django_user_model.objects.create_user("ada")
    names = {**vars(documented), "notify": notify}
    exec(code("how-to/testing.md", heading), names)
    if heading == "Run jobs":
        test = names["ReportTests"]("test_make_report")
        test.user = user
        return test.test_make_report()
    (example,) = (value for name, value in names.items() if name.startswith("test_"))
    parameters = example.__code__.co_varnames[: example.__code__.co_argcount]
    example(*(user if name == "user" else request.getfixturevalue(name) for name in parameters))


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:Django 2028 will not have a default mailer")
def test_the_receiver_of_the_example_enqueues_a_mail(run_jobs, django_user_model, mailoutbox, monkeypatch):
    """For a notification of level error, committed with it; the job of the mail creates no notification."""
    user = django_user_model.objects.create_user("ada", "ada@example.com")
    names = {"__name__": "tests.documented"}
    exec(code("how-to/signals.md", "As safe as the notification"), names)
    monkeypatch.setattr(documented, "mail_notification", names["mail_notification"], raising=False)
    try:
        notify(user, "The import has stopped", level="error")
        notify(user, "The import continues")
    finally:
        notification_recording.disconnect(names["enqueue_mail"])
    assert Job.objects.count() == 1
    assert run_jobs() == 1
    assert [mail.subject for mail in mailoutbox] == ["The import has stopped"]
    assert Notification.objects.count() == 2


@pytest.mark.django_db(transaction=True)
async def test_the_channels_routing_reaches_both_consumers(monkeypatch):
    """The project's own WebSocket and the app's, in the application of the example."""

    async def own_consumer(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    routing = ModuleType("mysite.routing")
    routing.websocket_urlpatterns = [path("ws/own/", own_consumer)]
    monkeypatch.setitem(sys.modules, "mysite", ModuleType("mysite"))
    monkeypatch.setitem(sys.modules, "mysite.routing", routing)
    [example] = blocks(DOCS / "how-to/channels.md", "python")
    exec(example, names := {})
    own = WebsocketCommunicator(names["application"], "/ws/own/")
    assert await own.connect() == (True, None)
    notifications = WebsocketCommunicator(names["application"], "/ws/notifications/")
    assert await notifications.connect() == (False, 4403)  # no Origin, no session
