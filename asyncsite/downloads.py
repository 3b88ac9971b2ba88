"""Reports as files for spreadsheets and programs."""

import csv
import io

COLUMNS = ("url", "outcome", "status", "elapsed_ms", "bytes", "content_type", "error")
#: A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def to_csv(calls):
    """Return CSV with a header and one line per call. Text that looks like a formula is prefixed with '."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for call in calls:
        writer.writerow([escape_formula(value) for value in call_to_dict(call).values()])
    return file.getvalue()


def to_dict(report, totals, calls):
    return {
        "title": report.title,
        "totals": totals.as_dict(),
        "calls": [call_to_dict(call) for call in calls],
    }


def call_to_dict(call):
    """Return the values of COLUMNS. Missing ones are None."""
    return {
        "url": call.url,
        "outcome": call.outcome,
        "status": call.status,
        "elapsed_ms": call.elapsed_ms,
        "bytes": call.bytes,
        "content_type": call.content_type or None,
        "error": call.error or None,
    }


def escape_formula(value):
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_PREFIXES) else value
