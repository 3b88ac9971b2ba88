"""The host with everything, under an ASGI and under a WSGI server."""

import pytest

from tests.hosts.host import prepared


@pytest.fixture(autouse=True, scope="session")
def not_twice(pytestconfig):
    if pytestconfig.getoption("database") == "postgres":
        pytest.skip("The host brings databases of its own, whatever --database says.")


@pytest.fixture(scope="module", params=["daphne-uuid", "uvicorn-string"])
def asgi(request, tmp_path_factory):
    """Under Daphne or uvicorn, with the embedded worker; keys of users are UUIDs, or texts."""
    server, key = request.param.split("-")
    yield from started(tmp_path_factory, key, f"start_{server}")


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory):
    """Under a WSGI server, with a worker beside it."""
    yield from started(tmp_path_factory, "uuid", "start_wsgi")


def started(tmp_path_factory, key, how):
    host = prepared(tmp_path_factory.mktemp("everything"), key)
    try:
        getattr(host, how)()
        yield host
    finally:
        host.close()
        print(host.log())
