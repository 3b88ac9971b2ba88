"""The message catalogs are complete, and tools/messages finds what is not."""

import importlib.util
import shutil
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from tests.support.requirements import skip_or_fail

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.any_database, pytest.mark.any_django]


@pytest.fixture(scope="module")
def messages():
    """tools/messages as a module."""
    if not shutil.which("xgettext"):
        skip_or_fail("gettext is not installed (apt-get install gettext).")
    loader = SourceFileLoader("messages", str(ROOT / "tools/messages"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("messages", loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("package", ["notifications", "asyncsite"])
def test_the_catalogs_are_complete(messages, package):
    assert messages.find_problems(ROOT / package) == []


@pytest.fixture
def package(messages, tmp_path):
    """A package with one text, translated to all languages."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "texts.py").write_text('text = _("{count} files")\n')
    messages.update(package)
    for catalog in messages.find_catalogs(package):
        catalog.write_text(catalog.read_text().replace("#, fuzzy\nmsgid", "msgid"))
        translate(catalog, "{count} x")
    messages.update(package)
    assert messages.find_problems(package) == []
    return package


def translate(catalog, text):
    head, _, rest = catalog.read_text().partition('msgid "{count} files"\nmsgstr "')
    catalog.write_text(f'{head}msgid "{{count}} files"\nmsgstr "{text}"{rest.partition(chr(34))[2]}')


def test_a_new_text_is_found(messages, package):
    (package / "texts.py").write_text('text = _("{count} files"), _("new")\n')
    problems = messages.find_problems(package)
    assert "package/locale/de/LC_MESSAGES/django.po is not up to date." in problems
    assert "package/locale/de/LC_MESSAGES/django.po: 1 untranslated message" in problems


def test_an_unused_text_is_found(messages, package):
    (package / "texts.py").write_text('text = _("{count} files")\n')
    catalog = messages.find_catalogs(package)[0]
    catalog.write_text(catalog.read_text() + '\nmsgid "unused"\nmsgstr "x"\n')
    assert "package/locale/de/LC_MESSAGES/django.po is not up to date." in messages.find_problems(package)


def test_an_empty_translation_and_a_missing_placeholder_are_found(messages, package):
    german, _, french = messages.find_catalogs(package)
    translate(french, "")
    assert "package/locale/fr/LC_MESSAGES/django.po: 1 untranslated message" in messages.find_problems(
        package
    )
    translate(german, "Dateien")
    assert "argument 'count' doesn't exist" in messages.find_problems(package)[0]


def test_a_stale_mo_file_is_found(messages, package):
    translate(messages.find_catalogs(package)[1], "{count} y")
    assert messages.find_problems(package) == ["package/locale/es/LC_MESSAGES/django.mo is not up to date."]
