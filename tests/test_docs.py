"""What the documentation says of settings is what the code reads."""

import re
from pathlib import Path

from asyncsite.environment import NAMES
from notifications.conf import DEFAULTS

DOCS = Path(__file__).resolve().parent.parent / "docs"


def rows(heading):
    """The rows of the table below a heading of settings.md, as (name, default)."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", (DOCS / "settings.md").read_text(), re.M | re.S)[
        1
    ]
    return re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.M)


def test_every_setting_of_the_app_is_documented_with_its_default():
    """One row for each key, in order, with the default as Python writes it."""
    assert rows("Of the app") == [(key, f"`{default!r}`") for key, default in sorted(DEFAULTS.items())]


def test_every_variable_of_the_site_is_documented():
    """One row for each name that the environment is asked for."""
    assert [name for name, _ in rows("Of the site")] == list(NAMES)


def test_links_lead_somewhere():
    """Every relative link of the documentation and the README names a file that is there."""
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
