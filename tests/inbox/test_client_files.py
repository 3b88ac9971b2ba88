"""Scripts and style sheets of a page: modules in development, otherwise bundles."""

from itertools import chain

import pytest
from django.contrib.auth.models import AnonymousUser

from notifications.inbox import client_files
from notifications.inbox.client_files import CORE_MODULES, ENTRY_MODULE, LAZY_MODULES, MODULES
from tests.templatetags.test_notifications import STATIC, client_data, development, render, script  # noqa: F401


def test_modules_are_the_files():
    """The tag lists every module except the entry module, and those that single pages load."""
    others = {ENTRY_MODULE, "push_worker", "question"}
    assert {file.stem for file in STATIC.glob("*.js")} == {*MODULES, *chain(*LAZY_MODULES.values()), *others}


def test_modules_are_loaded_in_development(user, development):  # noqa: F811
    """A change of a module is seen without a build. An anonymous page knows the modules without elements."""
    data = client_data(render(user))
    assert list(data["modules"]) == list(MODULES)
    assert {name: tuple(urls) for name, urls in data["lazy_modules"].items()} == LAZY_MODULES
    assert script(render(user))["src"] == "/static/notifications/entry.js"
    assert list(client_data(render(AnonymousUser()))["modules"]) == list(CORE_MODULES)


@pytest.mark.parametrize("is_checkout", [True, False])
def test_bundles_are_loaded_otherwise(user, settings, monkeypatch, is_checkout):
    """The wheel has no modules; a checkout without DEBUG, as in production, loads the bundles too."""
    settings.DEBUG = not is_checkout
    monkeypatch.setattr(client_files, "_has_modules", lambda: is_checkout)
    elements = render(user, has_inbox=True)
    assert script(elements)["src"] == "/static/notifications/bundle/page.js"
    assert client_data(elements)["modules"] == {"bundle/page": "/static/notifications/bundle/page.js"}
    (sheet,) = [link["href"] for link in elements.of("link") if link["rel"] == "stylesheet"]
    assert sheet == "/static/notifications/bundle/notifications.css"
    # The script itself needs no preload.
    preloads = [link["href"] for link in elements.of("link") if link["rel"] == "modulepreload"]
    assert preloads == [f"/static/notifications/bundle/{name}.js" for name in ("inbox", "rows")]


def test_the_inbox_loads_nothing_of_the_open_bell_and_of_toasts():
    """Half of the script for rows was theirs. They load it when the bell is about to be opened or a toast is shown."""
    assert not {"bell_panel", "bell_place", "toast_list"} & {*LAZY_MODULES["inbox"], *LAZY_MODULES["rows"]}
