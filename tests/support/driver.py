"""Call functions of a site's own code in a separate process, with one JSON line for each call.

driver = Driver(site); driver.call("notify_user", user=1, title="Hello")      # in a test
python -m tests.support.driver MODULE                                         # the process that it starts
"""

import json
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module

from tests.support.site import ROOT


class Driver:
    """A process with a site's settings. `call()` calls one of the module's ACTIONS and raises its error."""

    def __init__(self, site, actions="tests.support.site_actions"):
        self.lock = threading.Lock()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.support.driver", actions],
            env=site.env(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, action, **arguments):
        with self.lock:
            self.popen.stdin.write(json.dumps([action, arguments]) + "\n")
            self.popen.stdin.flush()
            response = json.loads(self.popen.stdout.readline() or '{"error": "The driver has ended."}')
        assert "error" not in response, f"{action} {arguments}\n{response['error']}"
        return response["value"]

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(60)
        self.popen.stdout.close()


@contextmanager
def driver(site, actions="tests.support.site_actions"):
    """Start a driver, and stop it at the end of the block."""
    started = Driver(site, actions)
    try:
        yield started
    finally:
        started.stop()


def serve(actions):
    """Call the actions that the lines of standard input name."""
    by_name = {action.__name__: action for action in actions}
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            response = {"value": by_name[name](**arguments)}
        except Exception:
            response = {"error": traceback.format_exc()}
        print(json.dumps(response), flush=True)


if __name__ == "__main__":
    import django

    django.setup()
    serve(import_module(sys.argv[1]).ACTIONS)
