"""Links lead to files and headings that exist, each page is in a table of contents, rows of tables are whole."""

import re

import pytest

from notifications.extension import Extension
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, tables, without_code

OTHER_PAGES = [ROOT / name for name in ("AGENTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


def name(page):
    return str(page.relative_to(ROOT))


def links(page):
    return re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", without_code(page))


def anchors(page):
    """Return what links call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings():
    """Relative links of each page, with and without an anchor."""
    found, wrong = 0, []
    for page in [*PAGES, *OTHER_PAGES]:
        for target, anchor in links(page):
            found += 1
            other = page.parent / target if target else page
            if not other.exists() or (anchor and anchor not in anchors(other)):
                wrong.append(f"{name(page)} links to {target}#{anchor}")
    assert found
    assert not wrong, "\n".join(wrong)


def listed_pages(index):
    """Return the pages of the tables of contents of an index, in their order."""
    trees = [re.sub(r"^:.*$", "", tree, flags=re.M) for tree in blocks(index, r"\{toctree\}")]
    return [[(index.parent / f"{entry}.md").resolve() for entry in tree.split()] for tree in trees]


def test_every_page_is_in_one_table_of_contents():
    """So that it has one place in the navigation. Sphinx only warns."""
    listed = [page for index in DOCS.rglob("index.md") for tree in listed_pages(index) for page in tree]
    assert sorted(listed) == sorted(page for page in DOCS.rglob("*.md") if page != DOCS / "index.md")


def test_the_sidebar_begins_with_the_pages_of_a_first_project():
    """Twelve, from the tutorial to the comparison; all others are in the sections below them."""
    first, sections = listed_pages(DOCS / "index.md")
    assert (len(first), first[0].stem, first[-1].stem) == (12, "first-job", "comparison")
    assert [page.parent.name for page in sections] == ["how-to", "reference", "explanation"]


@pytest.mark.parametrize(
    "page", [DOCS / "explanation/architecture.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md"], ids=name
)
def test_paths_in_the_text_exist(page):
    """Folders and files of the repository, of the package, or of a folder that the same line names."""
    found, missing = 0, []
    for line in without_code(page).splitlines():
        quoted = re.sub(
            r"application/problem\+json|\S+://\S*|\bvar/\S*", "", " ".join(re.findall(r"`([^`]+)`", line))
        )
        paths = re.findall(r"(?<![\w/])[\w.-]+(?:/[\w.-]*)+|\b\w+\.(?:py|md|js|css|html)\b", quoted)
        bases = [ROOT, ROOT / "notifications"]
        bases += [base / path for base in bases for path in paths if path.endswith("/")]
        found += len(paths)
        missing += [path for path in paths if not any((base / path).exists() for base in bases)]
    assert found
    assert missing == []


def test_rows_of_tables_have_the_cells_of_the_header():
    """A bar in code that has no backslash makes a cell more, of which GitHub drops the last one."""
    found, wrong = 0, []
    for page in [*PAGES, *OTHER_PAGES]:
        for header, *rows in tables(page):
            found += 1
            assert set("".join(rows[0])) <= set(":-"), f"{name(page)}: no line below the header {header}"
            wrong += [f"{name(page)}: {row}" for row in rows if len(row) != len(header)]
    assert found
    assert not wrong, "\n".join(wrong)


def test_the_table_of_folders_names_every_package():
    """Each folder of the app that has Python code, in the first column."""
    [(_, _, *rows)] = [
        table for table in tables(DOCS / "explanation/architecture.md") if table[0][0] == "folder"
    ]
    named = {path.split("/")[0] for first, *_ in rows for path in re.findall(r"`([\w/]+)/`", first)}
    app = ROOT / "notifications"
    assert {path.relative_to(app).parts[0] for path in app.glob("*/**/*.py")} - named == set()


def test_the_table_of_hooks_names_every_hook():
    """Those of pages by the name of their module."""
    [table] = [table for table in tables(DOCS / "explanation/architecture.md") if "hooks" in table[0]]
    named = set(re.findall(r"\w+", " ".join(hooks for _, hooks, *_ in table)))
    hooks = {name for name in vars(Extension) if not name.startswith("_")} - {"default", "default_auto_field"}
    assert hooks - named == set()
