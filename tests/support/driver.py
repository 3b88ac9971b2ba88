"""Call functions of a site's own code in a separate process, with one JSON line for each call.

driver = Driver(site); driver.call("notify_user", user=1, title="Hello")      # in a test
python -m tests.support.driver MODULE                                         # the process that it starts
"""

import json
import socket
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module


class Driver:
    """A process with a site's settings. `call()` calls a function of the module and raises its error."""

    def __init__(self, site, actions="tests.support.site_actions"):
        self.lock = threading.Lock()
        self._socket, programs = socket.socketpair()
        self._requests, self._responses = self._socket.makefile("w"), self._socket.makefile("r")
        with programs, open(2, "ab", closefd=False) as errors:
            arguments = ["-m", "tests.support.driver", actions]
            self.popen = site.start_program(arguments, input=programs, output=programs, errors=errors)

    def call(self, action, **arguments):
        with self.lock:
            self._requests.write(json.dumps([action, arguments]) + "\n")
            self._requests.flush()
            response = json.loads(self._responses.readline() or '{"error": "The driver has ended."}')
        assert "error" not in response, f"{action} {arguments}\n{response['error']}"
        return response["value"]

    def stop(self):
        self._socket.shutdown(socket.SHUT_WR)
        self.popen.wait(60)
        self._requests.close()
        self._responses.close()
        self._socket.close()


@contextmanager
def driver(site, actions="tests.support.site_actions"):
    """Start a driver, and stop it at the end of the block."""
    started = Driver(site, actions)
    try:
        yield started
    finally:
        started.stop()


def serve(module):
    """Call the functions that the lines of standard input name."""
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            response = {"value": getattr(module, name)(**arguments)}
        except Exception:
            response = {"error": traceback.format_exc()}
        print(json.dumps(response), flush=True)


if __name__ == "__main__":
    import django

    django.setup()
    serve(import_module(sys.argv[1]))
