"""The comparison of costs with an earlier revision tells a dearer tree from noise."""

import pytest

from bench import guard

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]


def find_dearer(*ratios):
    return guard.report({"a job": [(100.0, 100.0 * ratio) for ratio in ratios]}, 1.05)


def test_a_cost_that_grew_fails():
    assert find_dearer(1.06, 1.09, 1.08, 1.2, 1.07, 1.08, 1.02, 1.09) == ["a job"]


def test_a_cost_within_the_tolerance_passes():
    assert find_dearer(1.04, 1.05, 1.04, 1.05, 1.04, 1.03, 1.04, 1.04) == []


def test_ratios_that_scatter_around_1_pass():
    assert find_dearer(0.8, 1.3, 1.2, 0.9, 1.1, 1.4, 0.95, 1.1) == []


def test_a_weight_that_is_measured_once_fails():
    assert find_dearer(1.06) == ["a job"]
    assert find_dearer(1.04) == []


def test_turns_of_what_looks_dearer_go_on():
    for now, turns in ((100.0, guard.MIN_TURNS), (108.0, guard.MAX_TURNS)):
        figures = {"of another database": [(1.0, 2.0)]}
        guard.alternate([lambda: {"a job": 100.0}, lambda now=now: {"a job": now}], 60, figures)
        assert len(figures["a job"]) == turns


def test_nothing_is_compared_without_an_earlier_revision(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(guard, "TREE", tmp_path)
    monkeypatch.setattr("sys.argv", ["guard"])
    guard.main()
    assert "Nothing is compared" in capsys.readouterr().out
