"""Reading a list of URLs from an uploaded file: text with one a line, or CSV with them in a column.

What kind of file it is decides its name or its type; a URL may hold any separator, so the content does not.
"""

import codecs
import csv
import io
from itertools import islice

from asyncsite.pasted import URLS_AT_MOST

FILE_SIZE = 3 * 1024 * 1024  # bytes
COLUMN = "url"
SEPARATORS = ",;\t"
TABLES = ("text/csv", "text/tab-separated-values")
#: What browsers and programs call a text or a table whose name they do not know, besides text/….
UNNAMED = ("", "application/octet-stream", "application/csv", "application/vnd.ms-excel")


class Unusable(ValueError):
    """The file cannot be taken; ``status`` is what HTTP calls the reason."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


def read_upload(file):
    """The (line, content) pairs of an uploaded file, at most one more than a report takes, and how many there are.

    Blank ones are left out. Raises Unusable: 413 too big, 415 not text, 422 a table that cannot be read.
    """
    if file.size > FILE_SIZE:
        raise Unusable(413, f"The file has {file.size:,} bytes; at most {FILE_SIZE:,} are possible.")
    kind = (file.content_type or "").lower()
    if not kind.startswith("text/") and kind not in UNNAMED:
        raise Unusable(415, f"The file is of type {kind}. Choose a text or a CSV file.")
    text = decode(file.read())
    is_table = kind in TABLES or file.name.lower().endswith((".csv", ".tsv"))
    entries = cells(text) if is_table else lines(text)
    try:
        kept = list(islice(entries, URLS_AT_MOST + 1))
        return kept, len(kept) + sum(1 for _ in entries)
    except csv.Error as error:
        raise Unusable(422, f"The file cannot be read as CSV: {error}.") from error


def decode(content):
    """Text in UTF-8, or in UTF-16 that says so. Any other encoding would have to be guessed, and URLs with it."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        where = "" if is_wide else f": line {line:,} cannot be read"
        raise Unusable(415, f"The file is not text in UTF-8{where}. Save it as UTF-8.") from error
    if "\0" in text:
        raise Unusable(415, "The file is not text: it holds a NUL. Choose a text or a CSV file.")
    return text


def lines(text):
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, line.strip()


def cells(text):
    """The column that its first line calls ``url``, or the only one."""
    rows = numbered_rows(text)
    first = next(((number, row) for number, row in rows if any(row)), None)
    if first is None:
        return
    number, row = first
    names = [name.lower() for name in row]
    width = max(place for place, name in enumerate(names, start=1) if name)
    place = names.index(COLUMN) if COLUMN in names else 0
    if COLUMN not in names:
        # Or is it a URL with a separator in it, whose first half would be called?
        if width > 1:
            raise csv.Error(
                f"line {number} has several columns, and none is called {COLUMN}. "
                "Begin with a line that names them, or put what holds a separator in quotes"
            )
        yield number, row[0]
    for number, row in rows:
        if any(row[width:]):
            raise csv.Error(
                f"line {number} has more columns than line {first[0]}. What holds a separator belongs in quotes"
            )
        if place < len(row) and row[place]:
            yield number, row[place]


def numbered_rows(text):
    """The rows with the line in which each begins, their cells without blanks around them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield number, [cell.strip() for cell in next(reader)]
        except StopIteration:
            return


def separator(text):
    """The one of which the first line with anything in it has most."""
    first = next((line for _, line in lines(text)), "")
    return max(SEPARATORS, key=first.count)
