"""Each worker begins with its part of the slow tests."""

from types import SimpleNamespace

from tests.support.forked_workers import deal


def make_tests(path, marker, count):
    return [SimpleNamespace(path=path, get_closest_marker=marker.__eq__) for _ in range(count)]


def test_slow_files_are_dealt_first():
    tests = []
    for number in range(12):
        tests += make_tests(number, "slow" if number % 3 == 2 else "quick", 10)
    dealt = deal(tests, 2)
    assert sorted(map(id, dealt)) == sorted(map(id, tests))
    parts = [[test.path for test in part[::10]] for part in (dealt[:60], dealt[60:])]
    assert [part[:2] for part in parts] == [[2, 8], [5, 11]]
