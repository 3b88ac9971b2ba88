"""Extensions: how they are found, and the hooks that they define."""

import inspect
import sys
from types import ModuleType

import pytest
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import modify_settings
from django.urls import path

from notifications import extension, testing
from notifications.extension import Dispatch, Extension, JobSection, WaitKind
from notifications.extension.installed import Hooks, ImportedHook
from tests.extension.shop import Shop
from tests.support.extensions import install, load

pytestmark = pytest.mark.nightly_on_postgres

#: What has hooks: the installed extensions, their kinds of waits and sections of jobs, and what dispatches jobs.
HOOK_OWNERS = [
    owner
    for each in extension.installed.extensions()
    for owner in (each, *each.wait_kinds, *each.job_sections)
] + [extension.hooks.dispatch]


def test_an_app_that_is_required():
    """The models of one that is not installed would get the label of the core."""
    extension.require("notifications")
    with pytest.raises(ImproperlyConfigured, match=r'Add "none" to INSTALLED_APPS'):
        extension.require("none")


def test_apps_whose_tables_belong_together(recorder, monkeypatch):
    """Checks and doctor look at those of all extensions."""
    monkeypatch.setattr(extension.installed, "extensions", lambda: [recorder])
    assert extension.installed.list_apps() == [apps.get_app_config("notifications"), recorder]


def test_hooks_that_are_not_defined_are_not_called():
    class Silent(Extension):
        name, label = "notifications.testing", "silent"

    hooks = Hooks([Silent("notifications.testing", testing)])
    assert {name for name, value in vars(hooks).items() if value} == {"dispatch", "extensions", "wait_kinds"}
    assert list(hooks.wait_kinds) == ["pause"]


@pytest.mark.parametrize("owner", HOOK_OWNERS, ids=lambda owner: type(owner).__name__)
def test_hooks_that_are_imported_later(owner):
    """Each function exists, and takes what its hook is called with."""
    port = next(kind for kind in (Extension, WaitKind, JobSection, Dispatch) if isinstance(owner, kind))
    for name, hook in vars(type(owner)).items():
        if isinstance(hook, ImportedHook):
            parameters = list(inspect.signature(getattr(port, name)).parameters.values())[1:]
            values = {each.name: None for each in parameters if each.kind is each.KEYWORD_ONLY}
            inspect.signature(hook.find()).bind(*[None] * (len(parameters) - len(values)), **values)
            assert getattr(owner, name).__self__ is owner


@pytest.fixture
def slack_messages(tmp_path, monkeypatch):
    """The package of an extension, whose label is "slack"."""
    folder = tmp_path / "slack_messages"
    folder.mkdir()
    folder.joinpath("__init__.py").touch()
    folder.joinpath("apps.py").write_text(
        "from notifications.extension import Extension\n"
        'class Slack(Extension):\n    name = "slack_messages"\n    label = "slack"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_django_finds_the_extension(slack_messages):
    """And not the base class that its module imports, or it would have another label."""
    config = AppConfig.create("slack_messages")
    assert (type(config).__name__, config.label) == ("Slack", "slack")


def test_installed_extensions(monkeypatch):
    """Those of INSTALLED_APPS, in their order."""
    shop = Shop(Shop.name, testing)
    with monkeypatch.context() as patch:
        patch.setattr(apps, "get_app_configs", lambda: [AppConfig("notifications.testing", testing), shop])
        assert extension.installed.extensions() == [shop]


def test_urls_are_found(monkeypatch):
    urls = ModuleType("notifications.testing.urls")
    urls.urlpatterns = [path("shop/", lambda request: HttpResponse("open"), name="shop")]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    install(monkeypatch, Shop(Shop.name, testing))
    monkeypatch.setattr(extension.installed, "module_has_submodule", lambda module, name: module is testing)
    assert extension.hooks.find_modules("urls") == {Shop.label: urls}


def test_apps_of_one_test(slack_messages):
    """A project's test may install others: afterwards those from before are in effect again, with their hooks."""
    before = list(extension.hooks.extensions)
    with modify_settings(INSTALLED_APPS={"append": ["slack_messages"]}):
        assert "slack" in {each.label for each in extension.hooks.extensions}
    assert extension.hooks.extensions == before == extension.installed.extensions()


def test_a_base_class_of_extensions():
    """Django takes one class of a module, which it is not."""

    class Base(Extension):
        default = False

    class Mine(Base):
        name = "mine"

    assert (Base.default, Mine.default, Shop.default) == (False, True, True)


def test_a_column_of_something_that_is_unknown(monkeypatch):
    made = type("Mistaken", (Shop,), {"tables": {"notifications.SeenMark.at": "ages"}})
    with pytest.raises(ImproperlyConfigured, match="'ages' cannot be what a column of tables has"):
        load(monkeypatch, made(Shop.name, testing))
