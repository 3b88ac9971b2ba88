"""What the documentation says of settings, commands and tests is what the code has."""

import ast
import inspect
import re
import subprocess
from pathlib import Path

import pytest
from django.dispatch import Signal

from asyncsite.calling import Answer
from asyncsite.environment import NAMES, SQLITE_OPTIONS
from notifications import api, exceptions, signals
from notifications.api import notify
from notifications.conf import DEFAULTS
from notifications.models import Job
from tests import documented

DOCS = Path(__file__).resolve().parent.parent / "docs"


def rows(heading):
    """The rows of the table below a heading of settings.md, as (name, default)."""
    section = re.search(
        rf"^## {heading}$(.*?)(?=^## |\Z)", (DOCS / "reference/settings.md").read_text(), re.M | re.S
    )[1]
    return re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.M)


def test_every_setting_of_the_app_is_documented_with_its_default():
    """One row for each key, in order, with the default as Python writes it."""
    assert rows("Of the app") == [(key, f"`{default!r}`") for key, default in sorted(DEFAULTS.items())]


def test_every_variable_of_the_site_is_documented():
    """One row for each name that the environment is asked for."""
    assert [name for name, _ in rows("Of the site")] == list(NAMES)


def test_links_lead_somewhere():
    """Every relative link of the documentation and the README names a file that is there."""
    for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_name_of_the_api_is_in_its_page():
    """``task`` is Django's own, and a sentence there says so."""
    (members,) = re.findall(
        r"automodule:: notifications\.api\n +:members: (.+)", (DOCS / "reference/api.md").read_text()
    )
    assert set(members.split(", ")) | {"task"} == set(api.__all__)


def anchors(page):
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_into_a_page_find_their_heading():
    """Of the page itself and of others."""
    for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
            other = (page.parent / target) if target else page
            assert anchor in anchors(other), f"{page.name} links to {target}#{anchor}"


def code(page, heading):
    """The first block of code below a heading."""
    return re.search(rf"^## {heading}$.*?^```\w+$\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)[1]


def test_every_command_is_documented():
    """Those of the package and of the site, in the table and, the package's, with a section."""
    text = (DOCS / "reference/commands.md").read_text()
    for app in ("notifications", "asyncsite"):
        for path in (DOCS.parent / app / "management/commands").glob("[!_]*.py"):
            assert f"[`{path.stem}`](" in text, path.stem
            assert app == "asyncsite" or f"\n## {path.stem}\n" in text, path.stem


def test_every_public_name_is_documented():
    """The verbs, signals and errors, in the pages for people; ``rung`` is the doorbell's."""
    text = "".join(page.read_text() for page in DOCS.rglob("*.md") if page.name != "measured.md")
    names = {*api.__all__, *named(signals, Signal), *named(exceptions, type)} - {"rung"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def named(module, kind):
    """What a module defines of a kind, not what it imports."""
    own = (
        name for name in vars(module) if re.search(rf"^(class )?{name}\b", inspect.getsource(module), re.M)
    )
    return [name for name in own if isinstance(getattr(module, name), kind)]


def test_make_says_what_it_does():
    """A line for every target but those that others need."""
    makefile = (DOCS.parent / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    told = subprocess.run(["make", "-s", "help"], cwd=DOCS.parent, capture_output=True, text=True, check=True)
    assert re.findall(r"^make ([\w-]+) +\S", told.stdout, re.M) == [t for t in targets if t != "venv-dev"]


def test_the_options_of_sqlite_are_those_of_the_site():
    """The quick start names what runs here."""
    options = code("how-to/install.md", "SQLite").partition('"OPTIONS":')[2].strip().rstrip(",")
    assert ast.literal_eval(options) == SQLITE_OPTIONS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/jobs.md"])
def test_the_examples_of_a_view_take_a_post_only(page, rf, django_user_model):
    """A GET enqueues nothing; a POST is answered 202, and its job succeeds."""
    user = django_user_model.objects.create_user("ada")
    text = (DOCS.parent / page).read_text()
    (example,) = re.findall(r"^```python\n((?:(?!```)[\s\S])*?return accepted\([\s\S]*?)^```$", text, re.M)
    names = {"__name__": __name__, "collect": lambda year, month: None, "urls": ["http://10.0.0.1/"]}
    names |= {"Report": DocumentedReport, "check_urls": documented.make_report}
    exec(example, names)
    view, arguments = (names["export_view"], [2026]) if page == "README.md" else (names["reports"], [])
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
        return Answer(outcome="ok", status=200, elapsed_ms=1)

    monkeypatch.setattr("asyncsite.tasks.call", call)
    names = {}
    exec(code("how-to/jobs.md", "Test"), names)
    names["test_a_report_is_told"](client, django_user_model.objects.create_user("ada"))


@pytest.mark.parametrize(
    "heading", ["Run jobs", "Move the clock", "Capture what is told", "Connect a client"]
)
def test_the_examples_of_testing_pass(heading, request, transactional_db, django_user_model):
    """With the tasks that they name, and the fixtures of the plugin."""
    user = django_user_model.objects.create_user("ada")
    names = {**vars(documented), "notify": notify}
    exec(code("how-to/testing.md", heading), names)
    if heading == "Run jobs":
        test = names["ReportTests"]("test_a_report_is_made")
        test.user = user
        return test.test_a_report_is_made()
    (example,) = (value for name, value in names.items() if name.startswith("test_"))
    parameters = example.__code__.co_varnames[: example.__code__.co_argcount]
    example(*(user if name == "user" else request.getfixturevalue(name) for name in parameters))
