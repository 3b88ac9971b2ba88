"""A large file needs no memory: while it is made, and while it is downloaded."""

import http.client
import os
import time
from pathlib import Path
from uuid import UUID

import pytest

from notifications.api import policy, task
from notifications.contrib.files import add_file
from tests.support.driver import driver
from tests.support.network import is_listening
from tests.support.waiting import wait_until

MIB = 1024 * 1024
MAX_MEMORY = 50 * MIB


@task
@policy(timeout=1_000)
def make_large(size):
    chunk = b"0123456789abcdef" * (MIB // 16)
    add_file("large.bin", (chunk for _ in range(size // MIB)))


def enqueue_and_sign_in(size):
    """Enqueue a job, and return the key of a session of its owner."""
    from django.contrib.auth import get_user_model

    from tests.support.site_actions import sign_in

    user = get_user_model().objects.get(username="demo")
    make_large.using(owner=user).enqueue(size)
    return sign_in(user)


def change():
    from django.conf import settings

    backend = "django.core.files.storage.FileSystemStorage"
    options = {"location": os.environ["FAULT_OBJECTS"]}
    settings.STORAGES["notifications_files"] = {"BACKEND": backend, "OPTIONS": options}
    settings.NOTIFICATIONS["FILES"] = {"max_bytes": 2**33}


class Memory:
    """What a process uses above what it uses now, at most."""

    def __init__(self, process):
        self.folder = Path(f"/proc/{process.popen.pid}")
        (self.folder / "clear_refs").write_text("5")  # the peak begins anew
        self.before = self.read("VmRSS")

    def read(self, field):
        lines = (self.folder / "status").read_text().splitlines()
        [line] = (line for line in lines if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024

    def assert_small(self, what, mib):
        used = self.read("VmHWM") - self.before
        print(f"{what}: {used / MIB:.1f} MiB for {mib} MiB")
        assert used < MAX_MEMORY


@pytest.mark.nightly_names("*[2048-*")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mib", "server"), [(128, "daphne"), (2048, "daphne"), (2048, "uvicorn")])
def test_large_file(site, server, mib):
    pytest.importorskip(server)
    site.environment |= {"EMBEDDED_WORKER": "0", "FAULT_OBJECTS": str(site.folder / "objects")}
    site.change("tests.contrib.files.test_large_files")
    worker = site.start_worker()
    memory = Memory(worker)
    with driver(site, "tests.contrib.files.test_large_files") as site_code:
        session = site_code.call("enqueue_and_sign_in", size=mib * MIB)
    files = "SELECT id FROM notifications_files_resultfile"
    [(id,)] = wait_until(lambda: site.rows(files), timeout=600, what="the file")
    memory.assert_small("making it", mib)
    worker.stop()
    site.launch_web(server).wait_until(lambda: is_listening(site.port), what="the server to listen")
    for path, read in (
        ("/", None),
        (f"/notifications/files/{UUID(str(id))}/", read_fast),
        (f"/notifications/files/{UUID(str(id))}/", read_slowly),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=300)
        memory = Memory(site.web)
        connection.request("GET", path, headers={"Cookie": f"sessionid={session}"})
        response = connection.getresponse()
        assert response.status == 200
        if read:
            read(response, mib * MIB)
            memory.assert_small(read.__name__, mib)
        connection.close()


def read_fast(response, size):
    total = 0
    while chunk := response.read(MIB):
        total += len(chunk)
    assert total == size


def read_slowly(response, size):
    """As over a phone's connection: whoever sends faster keeps the rest in memory."""
    for _ in range(50):
        assert len(response.read(MIB // 4)) == MIB // 4
        time.sleep(0.1)
