"""The file for those who read no page: its blocks make a project whose tests pass, its names and pages exist."""

import pkgutil
import re

import pytest

from notifications import api
from tests.docs.pages import DOCS
from tests.docs.test_dotted_paths import find_dotted_paths
from tests.docs.test_tutorial import BLOCK, Reader
from tests.support.site import ROOT

pytestmark = pytest.mark.timeout(300)

LLMS = ROOT / "notifications/llms.txt"


@pytest.mark.nightly
def test_its_blocks_make_a_project_whose_tests_pass(tmp_path):
    text = LLMS.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("\n```\n"), "A block has no instruction above it."
    reader = Reader(tmp_path)
    for instruction, _, block in blocks:
        reader.follow(instruction, block)
    assert blocks[-1][2].endswith("python manage.py test\n")


def test_its_names_and_pages_exist():
    text = LLMS.read_text()
    # The wheel has the file and no pages, so a link would lead to nothing there.
    assert "](" not in text
    pages = re.findall(r"`([a-z]+(?:-[a-z]+)*/[a-z-]+)`", text)
    assert len(pages) > 20 and [page for page in pages if not (DOCS / f"{page}.md").exists()] == []
    for path in find_dotted_paths(text):
        pkgutil.resolve_name(path)
    apps = [path.parent.name for path in (ROOT / "notifications/contrib").glob("*/apps.py")]
    assert len(apps) > 10 and [app for app in apps if f"`notifications.contrib.{app}`" not in text] == []
    [line] = [line for line in text.splitlines() if line.startswith("- In async code:")]
    assert [name for name in re.findall(r"`(\w+)`", line) if not hasattr(api, name)] == []
