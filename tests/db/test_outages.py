"""503 stands for the app's own database, or for a resource that the process lacks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import RequestFactory

from notifications import testing
from notifications.api import accepted
from notifications.db import connection
from notifications.db.outages import is_own_outage
from notifications.extension import Extension
from notifications.http import exceptions_as_problems
from tests.jobs import tasks
from tests.support.extensions import install


def make_away(alias, tmp_path):
    """A connection to a file in a folder that does not exist."""
    settings = {
        **connection().settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "OPTIONS": {},
    }
    return DatabaseWrapper({**settings, "NAME": str(tmp_path / "gone" / "db.sqlite3")}, alias)


def raised_by(call):
    with pytest.raises(OperationalError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(("alias", "status"), [("default", 503), ("shop", None)])
def test_the_database_that_is_away(tmp_path, db, alias, status):
    """That of the app, not another one of the project, whatever thread has met it."""

    def query(request=None):
        make_away(alias, tmp_path).cursor()

    with ThreadPoolExecutor(1) as executor:
        assert is_own_outage(raised_by(executor.submit(query).result)) == bool(status)
    view, request = exceptions_as_problems(query), RequestFactory().get("/")
    if status:
        assert view(request).status_code == status
    else:
        raised_by(lambda: view(request))


class Shop(Extension):
    """It asks its supplier for each request."""

    name, label = "notifications.testing", "shop"

    def accept(self, request):
        raise OperationalError("The supplier is away.")


def test_an_error_that_a_hook_has_raised(db, monkeypatch):
    """It is that of its code. One of the app's database, which it has met, is not."""
    assert is_own_outage(OperationalError("The supplier is away."))
    install(monkeypatch, Shop(Shop.name, testing))
    error = raised_by(lambda: accepted(RequestFactory().post("/"), tasks.noop.enqueue))
    assert not is_own_outage(error)


def test_a_lack_of_memory():
    assert is_own_outage(MemoryError())
