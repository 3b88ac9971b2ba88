"""report.csv and report.json."""

import csv
import io

import pytest

from asyncsite.models import Call


def test_json_has_title_totals_and_calls(person, make_report):
    report = make_report(ok=[12], refused=1, title="Partners")
    response = person.get(f"/reports/{report.pk}/report.json")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-disposition"] == f'attachment; filename="report-{report.pk}.json"'
    assert response.json() == {
        "title": "Partners",
        "totals": {"ok": 1, "failed": 0, "refused": 1, "median_ms": 12, "p95_ms": 12},
        "calls": [
            {
                "url": "https://api.example.com/1",
                "outcome": "ok",
                "status": 200,
                "elapsed_ms": 12,
                "bytes": 2,
                "content_type": "text/plain",
                "error": None,
            },
            {
                "url": "https://api.example.com/2",
                "outcome": "refused",
                "status": None,
                "elapsed_ms": None,
                "bytes": None,
                "content_type": None,
                "error": "It is not public.",
            },
        ],
    }


def test_csv_has_one_line_per_call_in_order(person, make_report):
    report = make_report(ok=[12, 40], failed=1)
    response = person.get(f"/reports/{report.pk}/report.csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == f'attachment; filename="report-{report.pk}.csv"'
    assert list(csv.reader(io.StringIO(response.content.decode()))) == [
        ["url", "outcome", "status", "elapsed_ms", "bytes", "content_type", "error"],
        ["https://api.example.com/1", "ok", "200", "12", "2", "text/plain", ""],
        ["https://api.example.com/2", "ok", "200", "40", "2", "text/plain", ""],
        ["https://api.example.com/3", "failed", "", "", "", "", "It broke off."],
    ]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_escapes_formulas(person, make_report, formula):
    """An upstream chooses its content type."""
    report = make_report(ok=[12])
    Call.objects.update(content_type=formula, error=formula)
    rows = list(
        csv.reader(io.StringIO(person.get(f"/reports/{report.pk}/report.csv").content.decode(), newline=""))
    )
    assert rows[1][5:] == [f"'{formula}", f"'{formula}"]
