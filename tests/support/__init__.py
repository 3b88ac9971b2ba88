"""Services for tests: databases, servers, workers, browsers, a network that can be interrupted.

Each listens on a free port of the loopback interface, keeps its log, and ends only processes that it started.
A missing program skips the test, with the name of the Debian package; with REQUIRE_SERVICES=1 the test fails.
"""
