"""The database of each release is migrated to the present tables, and the app reads its rows."""

import json
import shutil

import pytest

import notifications
from tests.releases import databases
from tests.support.site import Site, make_sqlite_template


@pytest.fixture(params=["sqlite", "postgresql"])
def vendor(request):
    return request.param


@pytest.fixture
def load(vendor, request, tmp_path):
    """Return a function that returns a site on the database of a version, without one on new tables."""
    sites = []

    def load_site(version=None):
        folder = tmp_path / (version or "new")
        folder.mkdir()
        if vendor == "postgresql":
            if version:
                site = databases.load_postgres(version, folder, request.getfixturevalue("postgres"))
            else:
                site = request.getfixturevalue("postgres_sites").make()
        elif version:
            site = databases.load_sqlite(version, folder)
        else:
            site = Site(folder, f"sqlite:///{shutil.copy(make_sqlite_template(users=False), folder)}")
        sites.append(site)
        return site

    yield load_site
    for site in sites:
        site.close()


def test_the_present_version_has_a_database():
    """CONTRIBUTING.md says how it is made."""
    assert notifications.__version__ in databases.releases()


@pytest.mark.parametrize("version", databases.releases())
def test_the_database_of_a_release(load, vendor, version):
    """A first migration that was changed since leaves other tables than a new database has."""
    site = load(version)
    site.manage("migrate", "--verbosity", "0")
    assert databases.read_schema(site) == databases.read_schema(load())
    found, saved = (
        json.loads(site.python(databases.CALL.format("read"))),
        databases.read_saved(version, vendor),
    )
    for table in found["rows"].keys() - saved["rows"].keys():  # that a later version has created
        assert not found["rows"].pop(table)
    assert found == saved
