"""Choose the database before Django's settings are read. A conftest would be loaded too late."""

import gc
import os
import shutil
import signal
import tempfile

import hypothesis
import pytest

from tests.support import core_alone, fork_server, forked_workers
from tests.support.certificates import self_signed_pem as self_signed_pem
from tests.support.postgres import Postgres

cluster = None
test_folder = None
collector = None


def pytest_addoption(parser):
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="use a SQLite file (the default) or start a PostgreSQL cluster for this run",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config):
    """Start the cluster and set DATABASE_URL. A wrapper runs before pytest-django reads the settings."""
    global cluster, test_folder
    if "TEST_DIR" in os.environ:  # in the processes of pytest-xdist
        return (yield)
    test_folder = os.environ["TEST_DIR"] = tempfile.mkdtemp(prefix="asyncsite-tests-")
    if early_config.known_args_namespace.database == "postgres":
        try:
            cluster = Postgres(fsync=False)
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            raise pytest.UsageError(f"--database postgres: {reason}") from None
        cluster.create("tests")
        os.environ["DATABASE_URL"] = cluster.url("tests")
    return (yield)


def pytest_ignore_collect(collection_path):
    """Collect the tests of the core alone with its settings, and without them if CORE_TESTS says so the others."""
    return core_alone.is_left_out(collection_path) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Do not search 7,000 tests and their modules, which stay, for garbage: that is a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config):
    # Examples take long on a machine that is busy with other tests.
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("tests")
    config.option.rerun_show_tracebacks = True  # of tests that run once more in CI
    if forked_workers.DESCRIPTORS in os.environ:
        config.pluginmanager.register(forked_workers.CollectedTests())
    # A shell ignores SIGINT in background jobs, and every process that the tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_setupnodes(config, specs):
    global collector
    if len(specs) > 1:
        collector = forked_workers.Collector(config, len(specs))
        forked_workers.replace_specs(specs, collector)


def pytest_unconfigure():
    if collector:
        collector.stop()
    fork_server.stop()
    if cluster:
        cluster.stop()
    if test_folder:
        shutil.rmtree(test_folder, ignore_errors=True)
