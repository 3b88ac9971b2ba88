"""A table of rows is one test, and names each row that fails."""

import pytest

from tests.support.offenders import collect_offenders


def test_all_failed_rows_are_named():
    with pytest.raises(pytest.fail.Exception) as failure, collect_offenders() as offenders:
        for number in (1, 2, 3, 4):
            with offenders.row(f"number {number}"):
                assert number % 2
        with offenders.row("nothing raised"), pytest.raises(ValueError):
            pass
    message = str(failure.value)
    assert message.startswith("3 of 5 rows failed:\n")
    assert all(name in message for name in ("2. number 2", "4. number 4", "5. nothing raised"))
    assert "1. number 1" not in message
    assert "test_offenders.py:" in message


def test_a_table_without_rows_fails():
    with pytest.raises(AssertionError, match="no rows"), collect_offenders():
        pass
