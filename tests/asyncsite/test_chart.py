"""The chart of response times."""

from xml.etree import ElementTree

import pytest
from django.template.loader import render_to_string

from asyncsite.chart import build_chart
from asyncsite.models import Call

pytestmark = pytest.mark.nightly_on_old_django


def make_calls(*times, failed=(), without_response=0, refused=0):
    return [
        *(Call(outcome="ok", status=200, elapsed_ms=ms) for ms in times),
        *(Call(outcome="failed", status=500, elapsed_ms=ms) for ms in failed),
        *(Call(outcome="failed") for _ in range(without_response)),
        *(Call(outcome="refused") for _ in range(refused)),
    ]


def test_each_call_is_in_one_bar():
    """A step includes its start and excludes its end. Steps without calls between others are one bar."""
    chart = build_chart(make_calls(0, 4, 5, 19, 100, 12_000, failed=[20]))
    assert [(bar.label, bar.text) for bar in chart.bars] == [
        ("under 5 ms", "2 passed"),
        ("5 to 10 ms", "1 passed"),
        ("10 to 20 ms", "1 passed"),
        ("20 to 50 ms", "1 failed"),
        ("50 to 100 ms", "0"),
        ("100 to 200 ms", "1 passed"),
        ("200 ms to 10 s", "0"),
        ("10 s or more", "1 passed"),
    ]


def test_calls_without_a_response_time_have_bars_of_their_own():
    bars = build_chart(make_calls(3, without_response=2, refused=1)).bars
    assert [(bar.label, bar.text) for bar in bars] == [
        ("under 5 ms", "1 passed"),
        ("no response", "2 failed"),
        ("not called", "1 refused"),
    ]
    assert [bar.label for bar in build_chart(make_calls(refused=1)).bars] == ["not called"]


def test_segments_follow_the_counts_and_notes_mark_median_and_95_percent():
    bars = build_chart(make_calls(1, 12, 12, 12, 30, failed=[12, 30])).bars
    segments = [[(part.outcome, part.x, part.width) for part in bar.segments] for bar in bars]
    assert segments == [
        [("ok", 0, 25)],
        [],
        [("ok", 0, 75), ("failed", 75, 25)],
        [("ok", 0, 25), ("failed", 25, 25)],
    ]
    assert [bar.note for bar in bars] == ["", "", "median", "95%"]
    assert build_chart(make_calls(3)).bars[0].note == "median, 95%"


def test_without_calls_there_is_no_chart():
    assert build_chart([]) is None


def test_the_chart_is_accessible():
    """It has titles, a description and a table with all numbers, and no inline style, which the policy forbids."""
    chart = build_chart(make_calls(3, 3, 700, failed=[3], refused=1))
    html = render_to_string("asyncsite/chart.html", {"chart": chart})
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    assert svg.attrib["role"] == "img"
    labels = {element.attrib["id"]: element.text for element in svg if "id" in element.attrib}
    assert svg.attrib["aria-labelledby"].split() == list(labels)
    assert labels["chart-title"] == "Response times of the calls"
    assert labels["chart-desc"].startswith("under 5 ms: 2 passed, 1 failed (median); 5 to 500 ms: 0;")
    assert [title.text for title in svg.findall("g/rect/title")][:2] == [
        "under 5 ms: 2 passed",
        "under 5 ms: 1 failed",
    ]
    table = html[html.index("<table") :]
    assert "under 5 ms (median)" in table and "500 ms to 1 s (95%)" in table and "1 refused" in table
    assert "style=" not in html and "<style" not in html


def test_outcomes_differ_by_pattern_and_not_only_by_color():
    chart = build_chart(make_calls(3, failed=[3], refused=1))
    html = render_to_string("asyncsite/chart.html", {"chart": chart})
    assert 'class="bar failed"' in html and 'fill="url(#chart-failed)"' in html
    assert 'class="bar refused"' in html and 'fill="url(#chart-refused)"' in html
    assert html.count("<pattern") == 2
