"""The database of each release is migrated to the present tables, and the app reads its rows."""

import json
import shutil

import pytest

import notifications
from tests.releases import databases
from tests.support.site import Site, make_sqlite_template
from tests.support.waiting import wait_until


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


@pytest.mark.parametrize("version", databases.releases())
def test_statements_of_a_release(load, version):
    """Its processes may run beside new ones on the migrated database, which takes all that they execute."""
    site = load(version)
    site.manage("migrate", "--verbosity", "0")
    assert not databases.find_refused_statements(site, version)


def test_going_back_to_0_9_0(load):
    """As the page on upgrades says: the tables are those of 0.9.0, which also finds queued jobs of an engine."""
    site = load("0.9.0")
    tables = databases.read_schema(site)
    site.manage("migrate", "--verbosity", "0")
    active = "state IN ('queued', 'running', 'waiting')"
    site.write([(f"UPDATE notifications_job SET executor = 'woken_async' WHERE {active}", ())])
    for label in ("notifications_deliveries", "notifications_steps"):
        site.manage("migrate", label, "0001_initial", "--verbosity", "0")
    site.manage("migrate", "notifications", "0001_streams", "--verbosity", "0")
    assert databases.read_schema(site) == tables
    assert site.rows(f"SELECT DISTINCT executor FROM notifications_job WHERE {active}") == [("engine",)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["none any more", "Celery"])
def test_jobs_of_an_engine_of_0_9_0(load, engine, request):
    """In every state, dispatched ones too. Those that have not ended do, and the others stay as they are."""
    site = load("0.9.0")
    site.environment["EMBEDDED_WORKER"] = "0"
    site.manage("migrate", "--verbosity", "0")
    of_engine = "SELECT title, state FROM notifications_job WHERE title LIKE ?"
    ended = {
        title: state
        for title, state in site.rows(of_engine, ["%of an engine%"])
        if state not in ("queued", "running")
    }
    assert sorted(ended.values()) == ["cancelled", "failed", "succeeded"]
    if engine == "Celery":
        pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
        site.use_celery(request.getfixturevalue("redis").url)
        site.start_celery("--pool", "threads")
    else:
        site.start_worker()

    def are_done():
        states = dict(site.rows(of_engine, ["%of an engine%"]))
        return not {"queued", "running"} & set(states.values()) and states

    states = wait_until(are_done, what="the jobs to end", timeout=120)
    others = {states[title] for title in states.keys() - ended.keys()}
    assert len(states) == 11 and others == {"succeeded"} and ended.items() <= states.items()
