"""Real parts for tests: databases, servers, workers, browsers, a network that can be cut.

Each listens on a free port of the loopback interface, keeps its log, and ends only what it started.
A program that is not installed skips the test and names the Debian package; with REQUIRE_SERVICES=1 it fails.
"""
