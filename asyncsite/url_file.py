"""Read a list of URLs from an uploaded file: text with one URL per line, or CSV with a column of URLs.

The name or the content type of the file decides which of them it is. Its content cannot: a URL may contain any
separator.
"""

import codecs
import csv
import io
import math
from itertools import islice

from django.utils.translation import gettext as _

from asyncsite.numbers import format_number
from asyncsite.url_list import MAX_URLS

MAX_FILE_BYTES = 3 * 1024 * 1024
URL_COLUMN = "url"
SEPARATORS = ",;\t"
CSV_TYPES = ("text/csv", "text/tab-separated-values")
#: Content types that clients send for a text or CSV file of an unknown extension, besides text/….
GENERIC_TYPES = ("", "application/octet-stream", "application/csv", "application/vnd.ms-excel")


class UnusableFile(ValueError):
    """The file cannot be used. ``status`` is the HTTP status of the error."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def read_url_file(file):
    """Return the (line, content) pairs of an uploaded file, and their number.

    Blank lines are left out. At most one pair more than a report takes is returned, all are counted. Raises
    UnusableFile: 413 for a file that is too large, 415 if it is not text, 422 for CSV that cannot be parsed.
    """
    if file.size > MAX_FILE_BYTES:
        size = math.ceil(file.size / 100_000) / 10
        raise UnusableFile(
            413, _("This file is {size} MB. The limit is 3 MB.").format(size=format_number(size))
        )
    content_type = (file.content_type or "").lower()
    if not content_type.startswith("text/") and content_type not in GENERIC_TYPES:
        text = _("The file is of type {type}. Choose a text or a CSV file.")
        raise UnusableFile(415, text.format(type=content_type))
    text = decode(file.read())
    is_csv = content_type in CSV_TYPES or file.name.lower().endswith((".csv", ".tsv"))
    entries = read_url_column(text) if is_csv else read_lines(text)
    try:
        kept = list(islice(entries, MAX_URLS + 1))
        return kept, len(kept) + sum(1 for _ in entries)
    except csv.Error as error:
        raise UnusableFile(422, _("The file is not valid CSV: {problem}.").format(problem=error)) from error


def decode(content):
    """Decode UTF-8, or UTF-16 with a byte order mark. Guessing another encoding could change the URLs."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = format_number(1 + content.count(b"\n", 0, error.start))
        problem = _("The file is not text in UTF-8: line {line} cannot be decoded. Save it as UTF-8.")
        if is_utf16:
            problem = _("The file is not text in UTF-8. Save it as UTF-8.")
        raise UnusableFile(415, problem.format(line=line)) from error
    if "\0" in text:
        raise UnusableFile(415, _("The file is not text: it contains a NUL. Choose a text or a CSV file."))
    return text


def read_lines(text):
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, line.strip()


def read_url_column(text):
    """Yield the cells of the column that the first line names ``url``, or of the only column."""
    rows = read_rows(text)
    first = next(((number, row) for number, row in rows if any(row)), None)
    if first is None:
        return
    number, row = first
    names = [name.lower() for name in row]
    width = max(position for position, name in enumerate(names, start=1) if name)
    column = names.index(URL_COLUMN) if URL_COLUMN in names else 0
    if URL_COLUMN not in names:
        # Several cells without a header may be one URL with a separator in it: half a URL would be called.
        if width > 1:
            problem = _(
                "line {line} has several columns, and none is called {column}. "
                "Add a first line with the names of the columns, or quote values that contain a separator"
            )
            raise csv.Error(problem.format(line=number, column=URL_COLUMN))
        yield number, row[0]
    for number, row in rows:
        if any(row[width:]):
            problem = _(
                "line {line} has more columns than line {first}. Quote values that contain a separator"
            )
            raise csv.Error(problem.format(line=number, first=first[0]))
        if column < len(row) and row[column]:
            yield number, row[column]


def read_rows(text):
    """Yield each row as the number of its first line and its stripped cells."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_separator(text), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield number, [cell.strip() for cell in next(reader)]
        except StopIteration:
            return


def detect_separator(text):
    """Return the separator that occurs most often in the first non-blank line."""
    first = next((line for _, line in read_lines(text)), "")
    return max(SEPARATORS, key=first.count)
