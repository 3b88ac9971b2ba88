"""What ``NOTIFICATIONS["RATES"]`` declares, and how what is wrong is reported."""

import pytest
from django.core.checks import run_checks

from notifications.contrib.rates import api
from notifications.contrib.rates.declarations import read_rates
from tests.contrib.rates import rated_tasks

pytestmark = pytest.mark.any_database


def test_units_and_bursts(declare):
    declare(
        a="100/m", b={"rate": "5/s", "burst": 2}, c="1/d", d={"rate": "60/h", "hosts": ["api.example.com"]}
    )
    found = read_rates()
    assert [(r.count, r.seconds, r.burst) for r in found.by_name.values()] == [
        *((100, 60, 10), (300, 60, 2)),
        *((1, 86_400, 1), (60, 3_600, 6)),
    ]
    assert found.by_host["api.example.com"].name == "d"
    assert not found.wrong


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("100", "is no rate"),
        (100, "is no rate"),
        ("0/m", "is no rate"),
        ("100/w", "is no rate"),
        ({"rate": "5/m", "burst": 6}, "burst 6"),
        ({"rate": "5/m", "burst": 0}, "burst 0"),
        ({"rate": "5/m", "bursts": 1}, "no option 'bursts'"),
        ({"rate": "5/m", "hosts": "api.example.com"}, "no list of host names"),
        ({"rate": "5/m", "hosts": ["https://api.example.com"]}, "no list of host names"),
    ],
)
def test_a_wrong_one_limits_nothing(declare, value, said):
    declare(partner="1/m", wrong=value)
    assert set(read_rates().by_name) == {"partner"}
    [problem] = read_rates().wrong
    assert "['wrong']" in problem.message
    assert said in problem.message


@pytest.mark.django_db
def test_names_of_tasks_and_hosts(declare, monkeypatch):
    monkeypatch.setattr(api, "_declared", rated_tasks.DECLARED)
    hosts = {"rate": "1/m", "hosts": ["a.example"]}
    declare(partner=hosts, other=hosts, wrong="100")
    found = {check.id: check.msg for check in run_checks()}
    assert "['wrong']" in found["notifications.W046"]
    assert "'partner' and 'other'" in found["notifications.W047"]
    assert "rated_tasks.fetch_unknown has the rate 'unknown'" in found["notifications.W048"]


def test_a_name_that_cannot_be_one(declare):
    declare(**{"part ner": "1/m"})
    assert not read_rates().by_name
    assert "The name must be" in read_rates().wrong[0].message
