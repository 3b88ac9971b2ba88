"""A report as files for spreadsheets and programs."""

import csv
import io

COLUMNS = ("url", "outcome", "status", "elapsed_ms", "bytes", "content_type", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(calls):
    """One line a call below a line of names. A text that a spreadsheet would run as a formula is quoted with '."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for call in calls:
        writer.writerow([inert(value) for value in call_dict(call).values()])
    return file.getvalue()


def as_dict(report, totals, calls):
    return {"title": report.title, "totals": totals.as_dict(), "calls": [call_dict(call) for call in calls]}


def call_dict(call):
    """The call under the names of COLUMNS; what there is none of is None."""
    return {
        "url": call.url,
        "outcome": call.outcome,
        "status": call.status,
        "elapsed_ms": call.elapsed_ms,
        "bytes": call.bytes,
        "content_type": call.content_type or None,
        "error": call.error or None,
    }


def inert(value):
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
