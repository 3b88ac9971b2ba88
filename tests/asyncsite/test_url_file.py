"""Reports from an uploaded file: supported formats, and errors of unusable files."""

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from asyncsite.models import Report
from asyncsite.url_file import MAX_FILE_BYTES
from notifications.models import Job

pytestmark = pytest.mark.nightly_on_old_django

A, B = "https://a.example/1", "https://b.example/2"
JSON = {"accept": "application/json"}
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def upload(content, name="urls.txt", kind="text/plain"):
    return SimpleUploadedFile(name, content if isinstance(content, bytes) else content.encode(), kind)


def send(client, file, headers=JSON, **fields):
    for one in file if isinstance(file, list) else [file]:
        one.seek(0)
    return client.post("/reports/", {"file": file, **fields}, headers=headers)


@pytest.mark.parametrize(
    "file",
    [
        upload(f"{A}\n{B}\n"),
        upload(f"\ufeff{A}\r\n\r\n  {B}  "),
        upload(f"{A}\r{B}"),
        upload(f"{A}\n{B}".encode("utf-16")),
        upload(f"\ufeff{A}\n{B}".encode("utf-16-be")),
        upload(f"{A}\n{B}", "list", "application/octet-stream"),
        upload(f"{A}\n{B}", "list", ""),
        upload(f"{A}\n{B}", "urls.csv", "text/csv"),
        upload(f"{A},,\n{B},,\n", "urls.csv", "application/vnd.ms-excel"),
        upload(f"Name;URL\nFirst;{A}\n;;\nSecond;{B}\n", "URLS.CSV", "application/octet-stream"),
        upload(f"name\turl\tnote\nFirst\t{A}\nSecond\t{B}\tx\n", "urls.tsv", "text/tab-separated-values"),
        upload(f'\ufeff"Name","Url"\r\n"On, ""two""\nlines","{A}"\r\n,{B}\r\n', "urls.csv", "text/csv"),
        upload(f"\nname,url\n\nFirst,{A}\nSecond\nThird,{B}", "export", "text/csv; charset=utf-8"),
    ],
    ids=range(13),
)
def test_supported_files(program, file):
    """UTF-8, or UTF-16 with a BOM; one URL per line, or the only or the named column; blanks are ignored."""
    response = send(program, file, title="Partners")
    assert response.status_code == 202, response.content
    report = Report.objects.get()
    assert (report.urls, report.title, report.size) == ([A, B], "Partners", 2)
    assert response.json()["id"] == str(report.job_id)


def test_a_browser_is_redirected_to_the_report(person):
    response = send(person, upload(f"{A}\n{B}"), headers={}, urls="")
    assert (response.status_code, response.headers["location"]) == (
        303,
        Report.objects.get().get_absolute_url(),
    )


def test_separators_in_a_text_belong_to_the_url(program):
    """In CSV the URL must be quoted."""
    assert send(program, upload(f"{A}?x=1,2;3")).status_code == 202
    assert send(program, upload(f'url,name\n"{A}?x=1,2;3",First', "urls.csv")).status_code == 202
    assert send(program, upload(f'"{A}?x=1,2;3"', "urls.csv")).status_code == 202
    assert [report.urls for report in Report.objects.all()] == [[f"{A}?x=1,2;3"]] * 3


def test_text_box_and_file_are_joined(program):
    """The text box comes first. The limit applies to both together."""
    assert send(program, upload(B), urls=A).status_code == 202
    assert Report.objects.get().urls == [A, B]
    response = send(program, upload(f"{A}\n" * 600), urls=f"{B}\n" * 600)
    assert response.json()["errors"] == [
        {"field": "file", "detail": "There are 1,200 URLs. A report takes at most 1,000: remove 200."}
    ]


def test_1000_urls_of_2000_characters_are_accepted(program):
    urls = [f"{A}/{number:04}".ljust(2000, "x") for number in range(1000)]
    rows = "url,note\n" + "".join(f"{url},{'y' * 1000}\n" for url in urls)
    assert send(program, upload("\n".join(urls))).status_code == 202
    assert send(program, upload(rows, "urls.csv")).status_code == 202
    assert [report.urls for report in Report.objects.all()] == [urls, urls]


def test_three_megabytes_are_accepted(program):
    """One byte more is 413, also if it is blank."""
    assert send(program, upload(A.encode().ljust(MAX_FILE_BYTES))).status_code == 202
    assert send(program, upload(A.encode().ljust(MAX_FILE_BYTES + 1))).status_code == 413


NOT_A_URL = "does not begin with http:// or https://"
BAD_TABLE = "The file is not valid CSV: "
UNNAMED = (
    "line 1 has several columns, and none is called url. "
    "Add a first line with the names of the columns, or quote values that contain a separator."
)
NOT_UTF_8 = "The file is not text in UTF-8: line {} cannot be decoded. Save it as UTF-8.".format
NUL = "The file is not text: it contains a NUL. Choose a text or a CSV file."
OF_TYPE = "The file is of type {}. Choose a text or a CSV file.".format
TOO_MANY = "There are {:,} URLs. A report takes at most 1,000: remove {:,}.".format
TOO_BIG = "This file is {} MB. The limit is 3 MB.".format
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

BAD = {
    "empty": (upload(b""), 422, "The file is empty."),
    "blank": (upload(b" \r\n\n\t\n"), 422, "The file contains no URL."),
    "only a byte order mark": (upload("\ufeff"), 422, "The file contains no URL."),
    "only a heading": (upload("name,url\n", "a.csv"), 422, "The file contains no URL."),
    "only separators": (upload(";;;\n;;;\n", "a.csv"), 422, "The file contains no URL."),
    "no URL": (upload(f"{A}\n\nnonsense"), 422, f"Line 3 {NOT_A_URL}: nonsense"),
    "no URL in UTF-16": (upload("x".encode("utf-16")), 422, f"Line 1 {NOT_A_URL}: x"),
    "a foreign scheme": (upload("ftp://a/"), 422, f"Line 1 {NOT_A_URL}: ftp://a/"),
    "a script": (upload("javascript:alert(1)"), 422, f"Line 1 {NOT_A_URL}: javascript:alert(1)"),
    "no server": (upload("https://"), 422, "Line 1 has no host name: https://"),
    "a bad port": (
        upload("https://a:x/"),
        422,
        "Line 1 has an invalid host or port: https://a:x/",
    ),
    "a space": (
        upload("https://a b/"),
        422,
        "Line 1 contains a space or an invisible character: https://a b/",
    ),
    "a page": (upload("<html>", "a.html", "text/html"), 422, f"Line 1 {NOT_A_URL}: <html>"),
    "too long": (
        upload(A.ljust(2001, "x")),
        422,
        "Line 1 has 2,001 characters. The limit is 2,000.",
    ),
    "too many": (upload(f"{A}\n" * 1001), 422, TOO_MANY(1001, 1)),
    "far too many": (upload("x\n" * 10**6), 422, TOO_MANY(10**6, 999_000)),
    "too many rows": (upload("a,url\n" + f"a,{A}\n" * 1001, "a.csv"), 422, TOO_MANY(1001, 1)),
    "another heading": (upload(f"address,name\n{A},x", "a.csv"), 422, BAD_TABLE + UNNAMED),
    "no heading": (upload(f"{A}?x=1,2\n{B}", "a.csv"), 422, BAD_TABLE + UNNAMED),
    "another heading alone": (upload(f"address\n{A}", "a.csv"), 422, f"Line 1 {NOT_A_URL}: address"),
    "a bad cell": (upload(f'n,url\n"a\nb",{A}\n\nc,x', "a.csv"), 422, f"Line 5 {NOT_A_URL}: x"),
    "an open quote": (upload(f'url\n"{A}\n', "a.csv"), 422, BAD_TABLE + "unexpected end of data."),
    "text after a quote": (upload(f'url\n"{A}"x\n', "a.csv"), 422, BAD_TABLE + "',' expected after '\"'."),
    "an unquoted comma": (
        upload(f"url\n{A}?a=1,2", "a.csv"),
        422,
        BAD_TABLE + "line 2 has more columns than line 1. Quote values that contain a separator.",
    ),
    "an unquoted comma where spreadsheets fill up": (
        upload(f"url,,\n{A},,\n{A}?a=1,2,", "a.csv"),
        422,
        BAD_TABLE + "line 3 has more columns than line 1. Quote values that contain a separator.",
    ),
    "a huge cell": (
        upload("x" * 200_000, "a.csv"),
        422,
        BAD_TABLE + "field larger than field limit (131072).",
    ),
    "too big": (upload(b"x" * (MAX_FILE_BYTES + 1)), 413, TOO_BIG(3.2)),
    "much too big": (upload(b"\n" * 5 * 1024 * 1024), 413, TOO_BIG(5.3)),
    "an image": (upload(PNG, "a.png", "image/png"), 415, OF_TYPE("image/png")),
    "a workbook": (upload(b"PK\3\4", "a.xlsx", XLSX), 415, OF_TYPE(XLSX)),
    "a PDF": (upload(b"%PDF-1.7", "a.pdf", "application/pdf"), 415, OF_TYPE("application/pdf")),
    "JSON": (upload(f'["{A}"]', "a.json", "application/json"), 415, OF_TYPE("application/json")),
    "an image as text": (upload(PNG), 415, NOT_UTF_8(1)),
    "Latin-1": (upload(f"{A}\nhttps://a/caf\xe9".encode("latin-1")), 415, NOT_UTF_8(2)),
    "half a character": (upload(A.encode() + b"\xc3"), 415, NOT_UTF_8(1)),
    "a surrogate": (upload(b"https://a/\xed\xa0\x80"), 415, NOT_UTF_8(1)),
    "odd UTF-16": (
        upload(A.encode("utf-16") + b"x"),
        415,
        "The file is not text in UTF-8. Save it as UTF-8.",
    ),
    "UTF-16 without a BOM": (upload(A.encode("utf-16-le")), 415, NUL),
    "UTF-32": (upload(A.encode("utf-32")), 415, NUL),
    "a NUL": (upload(f"{A}\0\n"), 415, NUL),
    "two files": ([upload(A), upload(B)], 422, "There are several files. Choose one."),
}


@pytest.mark.parametrize(("file", "status", "words"), BAD.values(), ids=BAD)
def test_an_unusable_file_is_explained(program, file, status, words):
    """The problem names the field. Nothing is stored."""
    response = send(program, file)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem = response.json()
    assert problem["errors"] == [{"field": "file", "detail": words}]
    assert problem["detail"] == ("Some values are not valid." if status == 422 else words)
    assert not Report.objects.exists() and not Job.objects.exists()


@pytest.mark.parametrize("status", [413, 415, 422])
def test_a_browser_gets_the_form_with_the_error(person, status):
    """The error is at its field and in the summary, and the form keeps its values."""
    file, words = next((file, words) for file, its, words in BAD.values() if its == status)
    response = send(person, file, headers={}, urls=f"{A}\n", title="Mine")
    html = response.content.decode()
    assert response.status_code == status
    assert html.count(words) == 2
    assert f"{A}\n</textarea>" in html and 'value="Mine"' in html
    described = re.search(r'<input type="file"[^>]*aria-describedby="([^"]+)"', html)[1].split()
    assert len(described) == 2 and all(f'id="{name}"' in html for name in described)


def test_a_rendered_form_requires_the_file_again(person, settings):
    """Whatever the error is: browsers do not keep the file."""
    words = "Choose a&lt;b&gt;.txt again: the browser did not keep the file."
    wrong = send(person, upload(A, "a<b>.txt"), headers={}, title="x" * 201)
    assert wrong.status_code == 422 and wrong.content.decode().count(words) == 2
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    assert send(person, upload(A), headers={}).status_code == 303
    full = send(person, upload(A, "a<b>.txt"), headers={}, urls=B)
    assert full.status_code == 429 and full.content.decode().count(words) == 2 and B in full.content.decode()
    assert Report.objects.count() == 1


BOUNDARY = "multipart/form-data; boundary=x"


def part(disposition, content=b"", more=b""):
    return b"--x\r\nContent-Disposition: form-data; %s\r\n%s\r\n%s\r\n" % (disposition, more, content)


END = b"--x--\r\n"
FILE = b'name="file"; filename="a.txt"'
BROKEN = {
    "no boundary": ("multipart/form-data", part(FILE), 400),
    "an empty boundary": ("multipart/form-data; boundary=", part(FILE), 400),
    "a long boundary": ("multipart/form-data; boundary=" + "x" * 300, part(FILE), 400),
    "no part": (BOUNDARY, b"no form", 422),
    "no file chosen": (BOUNDARY, part(b'name="file"; filename=""') + END, 422),
    "a text for a file": (BOUNDARY, part(b'name="file"', A.encode()) + END, 422),
    "another name": (BOUNDARY, part(b'name="list"; filename="a.txt"', A.encode()) + END, 422),
    "cut off": (BOUNDARY, part(FILE, b"https:")[:-2], 422),
    "bad base64": (BOUNDARY, part(FILE, b"!", b"Content-Transfer-Encoding: base64\r\n") + END, 400),
    "many fields": (BOUNDARY, part(b'name="a"') * 1100 + END, 400),
    "many files": (BOUNDARY, part(b'name="a"; filename="a"') * 120 + END, 400),
    "a huge field": (BOUNDARY, part(b'name="title"', b"x" * 3_000_000) + END, 413),
    "a form without files": ("application/x-www-form-urlencoded", f"file={A}".encode(), 422),
    "the file alone": ("text/csv", A.encode(), 415),
    "another multipart": ("multipart/mixed; boundary=x", END, 415),
}


@pytest.mark.parametrize(("kind", "body", "status"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_form_is_a_problem(program, kind, body, status):
    """Never one of Django's pages, never 500."""
    response = program.generic("POST", "/reports/", body, content_type=kind, headers=JSON)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert not Report.objects.exists()


def test_a_malformed_form_is_a_page_for_browsers(person):
    response = person.generic("POST", "/reports/", b"x", content_type="multipart/form-data; boundary=")
    assert response.status_code == 400 and "The form cannot be read" in response.content.decode()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("application/json", "application/problem+json"), ("text/html", "text/html; charset=utf-8")],
)
def test_a_huge_body_is_refused_unread(person, accept, kind):
    """It is refused before the CSRF check, which would read it."""
    response = person.generic(
        "POST", "/reports/", b"x", BOUNDARY, CONTENT_LENGTH=str(2**40), headers={"accept": accept}
    )
    assert (response.status_code, response.headers["content-type"]) == (413, kind)


def test_csrf_is_checked_for_files(user, client_of):
    client = client_of(user, enforce_csrf_checks=True)
    assert send(client, upload(A)).status_code == 403
    assert not Report.objects.exists()


def test_the_same_idempotency_key_is_the_same_report(program):
    """Fields and files are compared, not the boundary. Another file is another request."""
    key = {**JSON, "idempotency-key": "k1"}
    first = send(program, upload(f"{A}\n{B}"), headers=key, title="Partners")
    again = send(program, upload(f"{A}\n{B}"), headers=key, title="Partners")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"] and again.headers["idempotency-replayed"] == "true"
    assert send(program, upload(A), headers=key, title="Partners").status_code == 422
    assert send(program, upload(f"{A}\n{B}"), headers=key, title="Others").status_code == 422
    assert Report.objects.count() == Job.objects.count() == 1
