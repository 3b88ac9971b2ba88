"""The reference has every public name, setting, command, system check, signal, exception and template tag."""

import inspect
import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
from django.dispatch import Signal
from django.template import engines

import notifications
from asyncsite.environment import NAMES
from notifications import api, conf, exceptions, outbound, signals, testing
from notifications.contrib import output, questions, steps, webhooks
from notifications.contrib.deliveries.templatetags import notifications_deliveries
from notifications.contrib.output.templatetags import notifications_output
from notifications.contrib.questions.templatetags import notifications_questions
from notifications.management.commands.notifications import Command
from tests.docs.pages import DOCS, ROOT, section

REFERENCE = DOCS / "reference"
CLIENT = ROOT / "notifications/static/notifications"


def table_rows(page, heading):
    """Return the first two cells of each row of the table below a heading, as (name, cell)."""
    return re.findall(r"^\| `(\w+)` \| (.*?) \|", section(page, heading), re.M)


def defined_in(module, kind):
    """Return the public names that a module defines of a kind, not those that it imports."""
    source = inspect.getsource(module)
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, kind) and re.search(rf"^(class )?{name}\b", source, re.M)
    }


def test_every_setting_of_the_app_is_documented_with_its_default():
    """One row for each key, in order, with the default as Python writes it."""
    assert table_rows("reference/settings.md", "Settings of the app") == [
        (key, f"`{setting.default!r}`") for key, setting in sorted(conf.SETTINGS.items())
    ]


def test_every_variable_of_the_site_is_documented():
    """One row for each environment variable that the site reads."""
    rows = table_rows(ROOT / "CONTRIBUTING.md", "Environment of the site")
    assert [name for name, _ in rows] == list(NAMES)


def test_every_name_of_the_api_is_documented():
    """One autodoc directive for each; a sentence says that ``task`` is Django's own."""
    page = (REFERENCE / "api.md").read_text()
    documented = re.findall(r"^\.\. auto\w+:: notifications\.api\.(\w+)$", page, re.M)
    assert sorted([*documented, "task"]) == sorted(api.__all__)


@pytest.mark.parametrize(
    "module", [outbound, output, questions, steps, testing, webhooks], ids=lambda module: module.__name__
)
def test_every_name_of_a_public_module_is_documented(module):
    """Autodoc lists the members of ``__all__``; each must have a docstring, or autodoc leaves it out."""
    assert f".. automodule:: {module.__name__}\n   :members:" in (REFERENCE / "api.md").read_text()
    undocumented = [
        name
        for name in module.__all__
        if callable(value := getattr(module, name)) and not inspect.getdoc(value)
    ]
    assert undocumented == []


def test_every_signal_is_documented():
    """One row of the table for each; ``rung`` is private."""
    rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "signals.md").read_text(), re.M)
    assert set(rows) == defined_in(signals, Signal) - {"rung"}


def test_every_exception_is_documented():
    """Autodoc lists the classes that have a docstring."""
    assert ".. automodule:: notifications.exceptions\n   :members:" in (REFERENCE / "api.md").read_text()
    names = defined_in(exceptions, type)
    assert names
    assert [name for name in names if not vars(getattr(exceptions, name)).get("__doc__")] == []


def test_every_system_check_is_documented():
    """One row for each id that the app can report."""
    rows = re.findall(r"^\| `(notifications\.\w+)` \|", (REFERENCE / "checks.md").read_text(), re.M)
    assert len(rows) == len(set(rows))
    sources = Path(notifications.__file__).parent.rglob("*.py")
    ids = (re.findall(r'"(notifications\.[A-Z]\d{3})"', source.read_text()) for source in sources)
    assert set(rows) == set(chain.from_iterable(ids))


def test_every_template_tag_is_documented():
    """One row for each tag of the libraries."""
    text = (REFERENCE / "template-tags.md").read_text()
    tags = re.findall(r"^\| `\{% (\w+) %\}` \|", text, re.M)
    filters = re.findall(r"^\| `\{\{ value\\\|(\w+) \}\}` \|", text, re.M)
    libraries = [
        library.register
        for library in (notifications_deliveries, notifications_output, notifications_questions)
    ]
    register = engines["django"].engine.template_libraries["notifications"]
    libraries.append(register)
    assert set(tags) == {tag for library in libraries for tag in library.tags}
    assert set(filters) == {*register.filters}


def first_cells(heading, page="reference/javascript.md"):
    """Return the quoted names in the first cells of the tables below a heading of a page."""
    cells = re.findall(r"^\| (.*?) \|", section(page, heading), re.M)
    return {name for cell in cells for name in re.findall(r"`\"?([\w:-]+)", cell)}


def class_body(module, name):
    """Return the source of a class of the browser client."""
    source = (CLIENT / module).read_text()
    return re.search(rf"^export class {name}\b.*?^}}", source, re.M | re.S)[0]


def test_every_event_and_attribute_of_the_elements_is_documented():
    """What the modules dispatch, and the attributes and parts of <notifications-job> and <notifications-output>."""
    sources = "".join(path.read_text() for path in CLIENT.glob("*.js"))
    element = (CLIENT / "job_element.js").read_text()
    events = set(re.findall(r'"(notifications:[\w-]+)"', sources))
    attributes = set(re.findall(r'(?:this|element)\.(?:get|has)Attribute\("([\w-]+)"', element))
    parts = set(re.findall(r'#(?:parts|hide)\("(\w+)"', element))
    [texts] = re.findall(r"return \{ (state, .*) \};", (CLIENT / "job_texts.js").read_text())
    script = (CLIENT / "output_element.js").read_text()
    attributes |= {"data-state", "data-offset", *re.findall(r'"(data-[\w-]+)"', script)}
    [texts_of_output] = re.findall(r"const TEXTS = \{(.*)\};", script)
    attributes |= {f"data-{name}" for name in re.findall(r'(\w+): "', texts_of_output)}
    parts.add("data-output-part")
    assert first_cells("Elements") == events | attributes | parts | set(texts.split(", "))


def public_members(module, name):
    """Return the getters and methods of a class, without the constructor and private ones."""
    members = re.findall(r"^  (?:get |async )?(\w+)\(.*\{$", class_body(module, name), re.M)
    return {*members} - {"constructor"}


def event_types(module, name):
    """Return the keys of a typedef of events, which are what ``on()`` takes."""
    [types] = re.findall(rf"@typedef \{{\{{(.*)\}}\}} {name}$", (CLIENT / module).read_text(), re.M)
    return set(re.findall(r"(\w+):", types))


def test_every_member_of_the_objects_in_a_page_is_documented():
    """Those of a job handle, of the stream and of a problem, what `notifications.ready` gives, states."""
    handle = public_members("job_handle.js", "JobHandle") | event_types("job_handle.js", "JobEvents")
    assert first_cells("Job handles") == handle | {"type"}

    stream = public_members("stream.js", "UserStream") | event_types("stream.js", "StreamEvents")
    state = set(re.findall(r"@property \{boolean\} (\w+)", (CLIENT / "stream.js").read_text()))
    assert first_cells("The stream") == stream | state | {"type"}

    requests = (CLIENT / "requests.js").read_text()
    properties = re.findall(r"^    this\.(\w+) = ", class_body("requests.js", "Problem"), re.M)
    classes = set(re.findall(r"^export class (\w+)", requests, re.M)) - {"Requests"}
    assert first_cells("Errors") == {*properties, "name", "message"} | classes

    [returned] = re.findall(r"return \{ (client, .*) \};", (CLIENT / "entry.js").read_text())
    names = set(re.findall(r"\w+", returned))
    assert first_cells("Names") == names | {"connect"}
    package = (ROOT / "js/index.js").read_text()
    exported = re.findall(r"^export (?:function|const) (\w+)", package, re.M)
    for names_of_a_module in re.findall(r"^export \{ (.*) \}", package, re.M):
        exported += names_of_a_module.split(", ")
    assert set(exported) == names - {"client"} | {"connect", "JobHandle"}

    client = (CLIENT / "client.js").read_text()
    states = set(re.findall(r'"(\w+)"', re.search(r'"state"[\s*]+\(detail: (.*?)\)', client, re.S)[1]))
    methods = set(re.findall(r"^  (\w+)\(.*\{$", class_body("client.js", "Client"), re.M)) - {"constructor"}
    assert states | methods - {"merge"} <= first_cells("The client")


def test_every_property_of_the_style_sheet_is_documented():
    """The custom properties that it reads."""
    used = set(re.findall(r"var\((--notifications-[\w-]+)", (CLIENT / "tokens.css").read_text()))
    assert first_cells("Properties", "how-to/theming.md") == used


def test_every_command_is_documented():
    """Those of the app are in the table and have a section."""
    text = (REFERENCE / "commands.md").read_text()
    for path in (ROOT / "notifications/management/commands").glob("[!_]*.py"):
        assert f"[`{path.stem}`](" in text, path.stem
        assert f"\n## {path.stem}\n" in text, path.stem
    for name in Command.subcommands:
        assert f"[`notifications {name}`](" in text, name
        assert f"\n## notifications {name}\n" in text, name


def test_make_help_lists_every_target():
    """A line for every target but the one that others need."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    printed = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(r"^make ([\w-]+) +\S", printed, re.M)
    assert listed == [target for target in targets if target != "venv-dev"]
