"""Fixtures for all tests.

    def test_bell(site_server, page):
        sign_in(page, site_server.url)                    # from tests.support.browser
        site_server.manage("notify", "demo", "Hello")
        page.get_by_text("Hello").wait_for()

`site` is a site that is not started yet, `site_server` one with Daphne and the embedded worker, each on a
fresh migrated database with the users demo/demo, other/other and admin/admin; tests/support/site.py says what
it can do. `page` is a new window of Chromium; `new_page()` opens more, each with cookies of its own. A page
that logs an error or breaks the Content-Security-Policy fails its test; `new_page(errors=False)` allows it.
`proxy` is a network that can be cut: open `proxy.url`, then proxy.cut() and proxy.restore().
A cut logs errors.
`user`, `other_user` are users in the test database, `user_client` is a signed-in client of the first, and
`client_of(user)` makes others. `make_user(name, **fields)` makes more users; pytest-django has `admin_user`.
`postgres`, `redis` are servers of the run; `canary` counts connections that should not be.
In modules that open a browser use `site.rows()` and `site.python()` rather than the ORM.
"""

import shutil
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connection, connections
from django.test import Client
from django.utils import translation

from tests.support import bounds, core_alone, empty_tables, plugin, resolvers, selection
from tests.support.browser import PAGE_TIMEOUT_MS, SharedChromium, collect_errors, start_browser
from tests.support.network import Canary, Proxy
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.shared_sites import FAILED, SharedSites
from tests.support.site import ROOT, Site, Sites, make_sqlite_template

ARTIFACTS = ROOT / "var" / "test-failures"

empty_tables.install()
resolvers.install()


def pytest_ignore_collect(collection_path, config):
    return selection.is_left_out(collection_path, config.option.markexpr) or None


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config, items):
    selection.mark(items)
    if left_out := [item for item in items if core_alone.is_deselected(item)]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not core_alone.is_deselected(item)]


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the database
def pytest_runtest_setup(item):
    """Close connections that the test before broke: one failure stays one. In CI it may be the second run of a test."""
    item.stash[FAILED] = False
    # What transactions before have added makes the next ones smaller.
    from notifications.jobs import notifying  # it has models

    notifying.jobs_added.update(dict.fromkeys(notifying.jobs_added, 0.0))
    for broken in connections.all(initialized_only=True):
        if getattr(broken.connection, "closed", False):
            broken.in_atomic_block = broken.closed_in_transaction = False  # else it would stay
            broken.close()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL cluster: the one of --database postgres, else one of its own."""
    if plugin.cluster:
        yield plugin.cluster
        return
    cluster = Postgres(fsync=False)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings):
    """On SQLite the database of the tests is a copy of one that was migrated once for this state of the code."""
    if connection.vendor != "sqlite":
        return False
    shutil.copy(make_sqlite_template(users=False), connection.settings_dict["TEST"]["NAME"])
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """pytest-django's, and at the end it ends what threads still hold open: PostgreSQL drops no database in use."""
    yield
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )


@pytest.fixture(scope="session")
def redis():
    """A Redis server of this run."""
    server = Redis()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sites(request):
    """Makes sites on the database of the run: sites.make() is a new one, not started."""
    folder = Path(tempfile.mkdtemp(prefix="asyncsite-sites-"))
    on_postgres = request.config.getoption("database") == "postgres"
    yield Sites(folder, request.getfixturevalue("postgres") if on_postgres else None)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(sites, request):
    """A site on a fresh database, not started. Its log is shown when the test fails."""
    yield from lend_site(sites, request)


@pytest.fixture(scope="session")
def postgres_sites(sites, postgres):
    """Makes sites on PostgreSQL, whatever the database of the run is."""
    if sites.postgres:
        yield sites
        return
    with tempfile.TemporaryDirectory(prefix="asyncsite-sites-") as folder:
        yield Sites(Path(folder), postgres)


@pytest.fixture
def postgres_site(postgres_sites, request):
    """A site on a fresh PostgreSQL database, not started."""
    yield from lend_site(postgres_sites, request)


def lend_site(sites, request):
    site = sites.make()
    yield site
    site.close()
    if failed(request):
        request.node.add_report_section("teardown", "site", site.log())


@pytest.fixture(scope="session")
def shared_sites(sites):
    """The running sites that tests use one after the other."""
    shared = SharedSites(sites)
    yield shared
    shared.close()


@pytest.fixture
def site_server(request, shared_sites):
    """A running site, Daphne with the embedded worker, without any rows but its users.

    A test that also has the fixture `site` gets a site of its own, whose environment it can change before.
    """
    if "site" in request.fixturenames:
        site = request.getfixturevalue("site")
        site.start_web()
        yield site
    else:
        with shared_sites.running(request, "daphne", Site.start_web) as site:
            yield site


@pytest.fixture
def proxy(request):
    """A TCP proxy before the site: open `proxy.url`, then proxy.cut() and proxy.restore()."""
    site = request.getfixturevalue("site_server" if "site_server" in request.fixturenames else "site")
    # Origin and Host of a page that came through the proxy are the proxy's, and equal each other.
    with Proxy(site.port) as proxy:
        yield proxy


@pytest.fixture
def canary():
    """A loopback server that must not be reached: `canary.url`, `canary.port`, `canary.connections`."""
    with Canary() as canary:
        yield canary


@pytest.fixture(scope="session")
def shared_chromium(tmp_path_factory):
    """The Chromium that modules use one after the other."""
    shared = SharedChromium(tmp_path_factory.mktemp("browser"))
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def browser(request, tmp_path_factory, shared_chromium):
    """A browser for the tests of one module: Chromium, or what a test or `BROWSER` of the module names."""
    name = getattr(request, "param", getattr(request.module, "BROWSER", "chromium"))
    started = (
        shared_chromium.lend() if name == "chromium" else start_browser(name, tmp_path_factory.mktemp(name))
    )
    with started as browser:
        yield browser


@pytest.fixture
def new_page(browser, request):
    """Opens windows, each as another person's browser: new_page(errors=True, **options of new_context)."""
    if "site_server" in request.fixturenames:
        request.getfixturevalue("site_server")  # so that windows are closed before its rows are deleted
    contexts, watched = [], []

    def open_page(*, errors=True, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(PAGE_TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        if errors:
            watched.append(collect_errors(page))
        return page

    yield open_page
    if failed(request):
        keep_screenshots(contexts, request.node.name)
    for context in contexts:
        context.close()
    logged = [error for errors in watched for error in errors]
    assert not logged, "The page logged errors:\n" + "\n".join(logged)


@pytest.fixture
def page(new_page):
    """A new window of Chromium, with cookies of its own."""
    return new_page()


@pytest.fixture(autouse=True)
def forget():
    """Forget the language of a test client, turns of shares that were rolled back, and lines that are logged rarely."""
    yield
    translation.deactivate()
    from notifications.extension import log_throttle
    from notifications.jobs import turns

    log_throttle.forget_logged()
    turns.forget()


@pytest.fixture
def make_user(db, django_user_model):
    """Return a function that creates a user: make_user(name, **fields). Without a password the user cannot log in."""
    return django_user_model.objects.create_user


@pytest.fixture
def user(make_user):
    """Return the user "ada"."""
    return make_user("ada")


@pytest.fixture
def other_user(make_user):
    """Return the user "bob"."""
    return make_user("bob")


@pytest.fixture
def client_of():
    """Return a function that signs a user in: client_of(user, **options of django.test.Client).

    By a session with what Django's login stores: ``force_login()`` executes six times as many statements.
    """

    def make_client(user, **options):
        client = Client(**options)
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = user._meta.pk.value_to_string(user)
        session[BACKEND_SESSION_KEY] = client._get_backend()
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
        return client

    return make_client


@pytest.fixture
def admin_client(client_of, admin_user):
    """Return a client in which the superuser of pytest-django is signed in."""
    return client_of(admin_user)


@pytest.fixture
def user_client(client_of, user):
    """Return a client in which ``user`` is signed in."""
    return client_of(user)


@pytest.fixture
async def event_loop_database(transactional_db):
    """For async tests that use the database: its thread keeps no connection, which would hold the test database."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def failed(request):
    return request.node.stash.get(FAILED, False)


def keep_screenshots(contexts, name):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for number, page in enumerate(page for context in contexts for page in context.pages):
        page.screenshot(path=ARTIFACTS / f"{name}-{number}.png", full_page=True)


@pytest.fixture
def connect_receiver():
    """connect_receiver(signal, function) connects a receiver for the length of the test."""
    connected = []

    def connect(signal, function):
        signal.connect(function)
        connected.append((signal, function))

    yield connect
    for signal, function in connected:
        signal.disconnect(function)


@pytest.fixture
def set_marking(monkeypatch):
    """set_marking(MAX_MARKED_ROWS=3) sets how much one request marks."""
    return lambda **to: [
        monkeypatch.setattr(f"notifications.streams.marking.{name}", to[name]) for name in to
    ]


@pytest.fixture
def patient_marking(set_marking):
    """Have requests change a whole inbox themselves, however busy the machine is."""
    set_marking(REQUEST_SECONDS=60)


@pytest.fixture
def set_bounds(monkeypatch):
    """set_bounds(rows=2, polls=0.1) sets bounds and paces of the package: tests/support/bounds.py has their names."""
    return partial(bounds.set_bounds, monkeypatch.setattr)


@pytest.fixture
def set_now(monkeypatch):
    """set_now(moment) stops the clock of this machine, as the package reads it."""
    return lambda moment: monkeypatch.setattr("notifications.times.now", lambda: moment)


@pytest.fixture
def short_ticks(set_bounds):
    """Have the hub look for changes 50 times a second."""
    set_bounds(ticks=0.02)


@pytest.fixture
def one_sync_thread(monkeypatch):
    """Have workers run one sync job at a time."""
    monkeypatch.setattr("notifications.worker.state.MAX_SYNC_THREADS", 1)


@pytest.fixture
def forgotten_log(monkeypatch):
    """Have what was logged before be logged again, and after clear() again: an outage is logged once a minute."""
    logged_at = {}
    for name, value in (("_logged_at", logged_at), ("_counts", {})):
        monkeypatch.setattr(f"notifications.extension.log_throttle.{name}", value)
    return logged_at
