"""The project `everything` under ASGI servers and a WSGI server."""

import pytest

from tests.hosts.host import create_host


@pytest.fixture(autouse=True, scope="session")
def skip_on_postgres(pytestconfig):
    if pytestconfig.getoption("database") == "postgres":
        pytest.skip("The project has databases of its own.")


@pytest.fixture(scope="module", params=["daphne-uuid", "uvicorn-string"])
def asgi(request, tmp_path_factory):
    """Run it under Daphne or uvicorn with the embedded worker. User keys are UUIDs or strings."""
    server, key = request.param.split("-")
    yield from run_host(tmp_path_factory, key, f"start_{server}")


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory):
    """Run it under a WSGI server with a separate worker."""
    yield from run_host(tmp_path_factory, "uuid", "start_wsgi")


def run_host(tmp_path_factory, key, start_method):
    host = create_host(tmp_path_factory.mktemp("everything"), key)
    try:
        getattr(host, start_method)()
        yield host
    finally:
        host.close()
        print(host.log())
