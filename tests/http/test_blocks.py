"""Projects override templates block by block; docs/how-to/theming.md lists the blocks."""

import re
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.template.backends.django import DjangoTemplates

from notifications import times
from notifications.models import Job, Notification

ROOT = Path(__file__).parents[2]
#: The folders of the core and of its apps, and their templates of pages by name.
FOLDERS = [ROOT / "notifications/templates", *(ROOT / "notifications/contrib").glob("*/templates")]
TEMPLATES = {path.name: path for folder in FOLDERS for path in folder.glob("notifications/*.html")}
TABLE = re.findall(
    r"^\| `notifications/(\w+\.html)` \| (.*) \|$", (ROOT / "docs/how-to/theming.md").read_text(), re.M
)
DOCUMENTED = {name: re.findall(r"`(\w+)`", blocks) for name, blocks in TABLE}
OVERRIDE = '{{% extends "notifications/{}" %}}{{% block {} %}}Overridden by {}{{% endblock %}}'


def read_blocks(name):
    """Return the blocks of a template."""
    return re.findall(r"\{% block (\w+) %\}", TEMPLATES[name].read_text())


def make_context():
    id = UUID(int=1)
    row = Notification(id=id, title="Title", body="Body", created_at=times.now(), raised=1)
    return {
        "row": row,
        "job": Job(id=id, title="Title", state="succeeded", created_at=times.now()),
        "state": "Succeeded",
        "question": SimpleNamespace(job=id, pk=id, title="Title"),
        "action": {"label": "Approve", "post": "/approve/"},
        "number": 0,
        "notification": row,
        "page": SimpleNamespace(rows=[row], is_partial=False),
        "query": SimpleNamespace(view="inbox"),
        "count": 1,
        "hidden": 0,
        "groups": [],
        "notifications_position": {"seq": 1},
    }


@pytest.mark.parametrize(
    ("name", "block"), [(name, block) for name in DOCUMENTED for block in DOCUMENTED[name]]
)
def test_a_documented_block_is_overridden(rf, name, block):
    """The page has the new text, and its other blocks are as before."""
    options = {"context_processors": ["django.template.context_processors.request"]}
    engine = DjangoTemplates({"NAME": "own", "DIRS": FOLDERS, "APP_DIRS": False, "OPTIONS": options})
    context, request = make_context(), rf.get("/")
    page = engine.from_string(OVERRIDE.format(name, block, "a project")).render(context, request)
    assert page.count("Overridden by a project") == 1
    before = engine.get_template(f"notifications/{name}").render(context, request)
    assert "Overridden" not in before and page != before
    if block not in ("title", "head", "content", "style"):
        assert "<title>" in page and page.count("</h1>") >= before.count("</h1>") - 1


def test_every_block_of_a_page_is_documented():
    """Those of templates that are pages or e-mails; what others include has none."""
    found = {name: sorted(read_blocks(name)) for name in TEMPLATES}
    assert {name: blocks for name, blocks in found.items() if blocks} == {
        name: sorted(blocks) for name, blocks in DOCUMENTED.items()
    }


def test_blocks_inside_content_have_names_that_no_layout_has():
    """A block of the same name in the project's layout would be filled by the app."""
    for name, blocks in DOCUMENTED.items():
        if re.search(r'\{% extends .*"notifications/base.html" %\}', TEMPLATES[name].read_text()):
            assert all(
                block in ("title", "head", "content") or block.startswith("notifications_")
                for block in blocks
            )


@pytest.mark.django_db
def test_a_template_that_extends_the_one_of_its_name(user_client, user, settings, tmp_path):
    folder = tmp_path / "notifications"
    folder.mkdir()
    block = OVERRIDE.format("preferences.html", "notifications_heading", "{{ block.super }}")
    Path(folder / "preferences.html").write_text(block)
    settings.TEMPLATES = [
        {**settings.TEMPLATES[0], "DIRS": [tmp_path, *settings.TEMPLATES[0].get("DIRS", [])]}
    ]
    page = user_client.get("/notifications/preferences/").text
    assert re.search(r'Overridden by <div class="notifications-heading"><h1>Preferences</h1>', page)
