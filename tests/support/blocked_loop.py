"""URLs and a task that block the event loop of their process once, for longer than it may be blocked.

`environment["TEST_URLCONF"] = "tests.support.blocked_loop"` adds the URL to a site. A file marks that the loop has been
blocked: the process that is started again finds it, and its loop runs on.
"""

import asyncio
import http.client
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

from django.http import HttpResponse
from django.urls import path

from asyncsite.urls import urlpatterns as site_urlpatterns
from notifications.api import task
from notifications.worker import watchdog

#: The loop runs again after this time, so that a test fails soon if the process is not ended.
BLOCK_SECONDS = 20
#: In place of 30 s.
MAX_BLOCKED_SECONDS = 1.0
HOST = "site.example"


def block_once(marker):
    """Block the thread if the file `marker` does not exist, and create it."""
    marker = Path(marker)
    if not marker.exists():
        marker.touch()
        watchdog.MAX_BLOCKED_SECONDS = MAX_BLOCKED_SECONDS
        time.sleep(BLOCK_SECONDS)


async def block_server(request):
    block_once(request.GET["marker"])
    return HttpResponse("The event loop runs.\n")


@task
async def block_worker(marker):
    """Block the loop outside a task: a worker is not ended for a job that blocks it."""
    asyncio.get_running_loop().call_soon(block_once, marker)


urlpatterns = [*site_urlpatterns, path("block/", block_server)]


# In the test.


def set_up_production(site):
    """Have the processes of a site run as in production: with DEBUG, none is ended."""
    site.environment |= {"DEBUG": "0", "ALLOWED_HOSTS": HOST, "EMBEDDED_WORKER": "0"}
    site.environment["TEST_URLCONF"] = "tests.support.blocked_loop"
    # `serve` refuses the passwords of development.
    site.write([("UPDATE auth_user SET password = '!'", ())])


def request_block(site, marker):
    """Request the URL, through a proxy with HTTPS, and return the status of the response.

    Raises ConnectionError if the server ends before it responds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    headers = {"Host": HOST, "X-Forwarded-Proto": "https"}
    with closing(connection):
        connection.request("GET", f"/block/?{urlencode({'marker': marker})}", headers=headers)
        return connection.getresponse().status
