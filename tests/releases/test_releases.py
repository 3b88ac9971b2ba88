"""The database of each release is migrated to the present tables, and the app reads its rows."""

import json
import shutil

import pytest

import notifications
from tests.releases import databases
from tests.support.site import Site, make_sqlite_template

#: The present version, of which there is no stored database until its release: its own is saved and read.
UNRELEASED = "unreleased"


@pytest.fixture(params=["sqlite", "postgresql"])
def vendor(request):
    return request.param


@pytest.fixture
def make_site(vendor, request, tmp_path):
    """Return a function that makes a site on new tables, or on a copy of a saved database."""
    sites = []

    def make(saved=None):
        folder = tmp_path / f"site{len(sites)}"
        folder.mkdir()
        if saved and vendor == "postgresql":
            site = databases.load_postgres(saved, folder, request.getfixturevalue("postgres"))
        elif saved:
            site = databases.load_sqlite(saved, folder)
        elif vendor == "postgresql":
            site = request.getfixturevalue("postgres_sites").make()
        else:
            site = Site(folder, f"sqlite:///{shutil.copy(make_sqlite_template(users=True), folder)}")
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


@pytest.fixture(params=[*databases.releases(), UNRELEASED])
def saved(request, make_site, tmp_path):
    """The folder of a saved database."""
    if request.param != UNRELEASED:
        return databases.FOLDER / request.param
    databases.save(make_site(), tmp_path / UNRELEASED)
    return tmp_path / UNRELEASED


def test_a_released_version_has_a_database():
    """CONTRIBUTING.md says how it is made."""
    assert ".dev" in notifications.__version__ or notifications.__version__ in databases.releases()


def test_the_database_of_a_release(saved, make_site, vendor):
    """A first migration that was changed since leaves other tables than a new database has.

    Its processes may run beside new ones on the migrated database, which takes all that they execute.
    """
    site = make_site(saved)
    site.manage("migrate", "--verbosity", "0")
    assert databases.read_schema(site) == databases.read_schema(make_site())
    found, before = (
        json.loads(site.python(databases.CALL.format("read"))),
        databases.read_saved(saved, vendor),
    )
    for table in found["rows"].keys() - before["rows"].keys():  # that a later version has created
        assert not found["rows"].pop(table)
    assert found == before
    assert not databases.find_refused_statements(site, saved)
