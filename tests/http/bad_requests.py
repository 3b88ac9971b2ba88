"""Requests that are invalid in one way each, with the status and words of their response.

In a path, ``{mine}`` is the id of a job of the user and ``{theirs}`` of another user's. In a body, ``{head}`` is the
position of the stream.
"""

from dataclasses import dataclass, field

API = "/notifications/api/"
READ = API + "notifications/read/"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
NIL = "00000000-0000-0000-0000-000000000000"
DEEP = b"[" * 100_000


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    """A request and its expected response. Without ``token`` it has no CSRF token."""

    name: str
    path: str
    status: int
    says: str
    method: str = "POST"
    body: bytes = b""
    type: str = JSON
    headers: dict = field(default_factory=dict)
    token: bool = True


def post_read(name, body, says, status=400, **fields):
    return BadRequest(name=f"read: {name}", path=READ, status=status, says=says, body=body, **fields)


def post_report(name, body, says, status=400, **fields):
    return BadRequest(name=f"report: {name}", path="/reports/", status=status, says=says, body=body, **fields)


def get(name, path, says, status=422, **fields):
    return BadRequest(name=f"get: {name}", path=API + path, status=status, says=says, method="GET", **fields)


def post_with_key(name, key):
    says = "1 to 200 visible ASCII characters"
    body = b'{"urls": ["https://example.org/"]}'
    return post_report(f"key {name}", body, says, headers={"Idempotency-Key": key})


#: Bodies that are not JSON, or that are ambiguous.
INVALID_JSON = {
    "blank": (b" \n", "Send one"),
    "cut off": (b'{"up_to": 1', "Send one"),
    "two values": (b"{}{}", "Extra data"),
    "a trailing comma": (b'{"up_to": 1,}', "Send one"),
    "single quotes": (b"{'up_to': 1}", "Send one"),
    "a comment": (b'{"up_to": 1} // all', "Extra data"),
    "NaN": (b'{"up_to": NaN}', "NaN is no"),
    "Infinity": (b'{"up_to": Infinity}', "Infinity is no"),
    "minus Infinity": (b'{"up_to": -Infinity}', "-Infinity is no"),
    "a key twice": (b'{"up_to": 1, "up_to": 2}', "an object has a"),
    "a key twice, further in": (b'{"x": [{"a": 1, "a": 2}]}', "an object has a"),
    "arrays in arrays": (DEEP, "nested too deeply"),
    "objects in objects": (b'{"a":' * 100_000, "nested too deeply"),
    "a number of 5,000 digits": (b'{"up_to": ' + b"9" * 5000 + b"}", "400 digits"),
    "hexadecimal": (b'{"up_to": 0x10}', "Send one"),
    "a leading zero": (b'{"up_to": 07}', "Send one"),
    "a plus": (b'{"up_to": +7}', "Send one"),
    "a raw newline in a text": (b'{"x": "a\nb"}', "Invalid control character"),
    "a raw NUL": (b'{"x": "\x00"}', "Invalid control character"),
    "a bad escape": (b'{"x": "\\x41"}', "Send one"),
    "Latin-1": ('{"x": "ä"}'.encode("latin-1"), "can't decode"),
    "UTF-16": ('{"up_to": 1}'.encode("utf-16"), "can't decode"),
    "UTF-32": ('{"up_to": 1}'.encode("utf-32-le"), "Send one"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "half a character": (b'{"x": "\xf0\x9f"}', "can't decode"),
    "a surrogate in UTF-8": (b'{"x": "\xed\xa0\x80"}', "can't decode"),
    "XML": (b"<up_to>1</up_to>", "Send one"),
    "a form": (b"up_to=1", "Send one"),
}

BAD_REQUESTS = [
    *(post_read(name, body, says) for name, (body, says) in INVALID_JSON.items()),
    *(post_report(name, body, says) for name, (body, says) in INVALID_JSON.items()),
    # Values that are JSON but invalid.
    *(
        post_read(name, body, "The body must be a JSON object", 422)
        for name, body in {
            "an array": b"[]",
            "null": b"null",
            "a number": b"1",
            "a text": b'"up_to"',
            "true": b"true",
        }.items()
    ),
    *(
        post_read(f"up_to {name}", b'{"up_to": %s}' % value, "up_to must be an integer from 0 to", 422)
        for name, value in {
            "null": b"null",
            "a text": b'"1"',
            "true": b"true",
            "a list": b"[1]",
            "an object": b"{}",
            "a fraction": b"1.5",
            "a whole float": b"1.0",
            "an exponent": b"1e2",
            "an endless one": b"1e999",
            "below 0": b"-1",
            "beyond the head": b"1000",
            "beyond 2^53": b"9007199254740993",
            "of 300 digits": b"9" * 300,
        }.items()
    ),
    post_read("no body", b"", "Send application/json", 415),
    post_report("no body", b"", "Send one of", 415),
    post_read("no up_to", b"{}", "up_to must be an integer", 422),
    post_read("another case", b'{"UP_TO": 1}', "up_to must be an integer", 422),
    *(
        post_read(f"ids {name}", b'{"up_to": {head}, "ids": %s}' % value, "ids ", 422)
        for name, value in {
            "a text": b'"all"',
            "an object": b"{}",
            "a number": b"1",
            "of numbers": b"[1]",
            "of null": b"[null]",
            "of lists": b"[[]]",
            "no uuid": b'["1"]',
            "with a NUL": b'["\\u0000"]',
            "with half a surrogate": b'["\\ud800"]',
            "too many": b"[" + b",".join([b'"' + NIL.encode() + b'"'] * 201) + b"]",
        }.items()
    ),
    post_report("an array", b"[]", "Some values are not valid", 422),
    post_report("null", b"null", "Some values are not valid", 422),
    post_report("no urls", b"{}", "Some values are not valid", 422),
    *(
        post_report(f"urls {name}", b'{"urls": %s}' % value, "Some values are not valid", 422)
        for name, value in {
            "null": b"null",
            "a text": b'"https://example.org/"',
            "none": b"[]",
            "of numbers": b"[1]",
            "of null": b"[null]",
            "of lists": b'[["https://example.org/"]]',
            "no url": b'["x"]',
            "another scheme": b'["ftp://example.org/"]',
            "with a NUL": b'["https://example.org/\\u0000"]',
            "with half a surrogate": b'["https://example.org/\\ud800"]',
            "too many": b"[" + b",".join([b'"https://example.org/"'] * 1001) + b"]",
        }.items()
    ),
    *(
        post_report(
            f"title {name}", b'{"urls": ["https://example.org/"], "title": %s}' % value, "Some values", 422
        )
        for name, value in {
            "a number": b"1",
            "a list": b"[]",
            "an endless number": b"1e999",
            "too long": b'"%s"' % (b"x" * 300),
            "with a NUL": b'"a\\u0000"',
            "with half a surrogate": b'"\\udc00"',
        }.items()
    ),
    # Content types and sizes.
    *(
        post_read(f"as {name}", b'{"up_to": 1}', "Send application/json", 415, type=type)
        for name, type in {
            "text": "text/plain",
            "a form": FORM,
            "JSON of another kind": "application/vnd.api+json",
            "JSON text": "text/json",
            "nothing": "",
            "no type": "json",
            "an unknown one": "x/y; charset=utf-8",
        }.items()
    ),
    *(
        post_report(f"as {name}", b'{"urls": ["https://example.org/"]}', "Send one of", 415, type=type)
        for name, type in {"text": "text/plain", "nothing": "", "XML": "application/xml"}.items()
    ),
    *(
        BadRequest(
            name=f"1 MiB and a byte for {verb}",
            path=API + f"jobs/{{mine}}/{verb}/",
            status=413,
            says="Send at most 1048576 bytes",
            body=b" " * (1024 * 1024 + 1),
            type=type,
        )
        for verb, type in (("cancel", JSON), ("retry", "text/plain"))
    ),
    post_read("1 MiB and a byte", b" " * (1024 * 1024 + 1), "Send at most 1048576 bytes", 413),
    post_report("4 MiB", b'{"urls": [' + b" " * (4 * 1024 * 1024) + b"]}", "Send fewer URLs", 413),
    post_report(
        "a multipart form without its boundary", b"x", "not a valid form", 400, type="multipart/form-data"
    ),
    post_report("a broken multipart form", b"--b\r\nbroken", "Some values", 422, type=MULTIPART),
    # Queries.
    *(
        get(f"{list_name} {query}"[:80], f"{list_name}/?{query}", query.partition("=")[0])
        for list_name in ("jobs", "notifications")
        for query in (
            "limit=0",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1.5",
            "limit=1e2",
            "limit=%00",
            "limit=%D9%A3",
        )
    ),
    *(
        get(f"jobs after {after}"[:80], f"jobs/?after={after}", "after must contain ids only")
        for after in ("", "1", "x", "%00", "%ff", NIL[:-1], NIL + "0", "%ED%A0%80")
    ),
    *(
        get(f"notifications after {after}", f"notifications/?after={after}", "after must be an integer")
        for after in ("", "-1", "x", NIL, "1.0", "9007199254740992", "9" * 400, "%00", "%ff")
    ),
    *(
        get(f"jobs of state {state}", f"jobs/?state={state}", "state must be one of queued")
        for state in ("", "done", "QUEUED", "queued%00", "%ff")
    ),
    *(
        get(f"notifications {query}", f"notifications/?{query}", query.partition("=")[0])
        for query in ("unread=2", "unread=true", "unread=", "archived=-1", "archived=yes", "category=x%00")
    ),
    *(
        get(f"sync {query}"[:80], f"sync/?{query}", "seq must be an integer")
        for query in (
            "epoch=e&seq=x",
            "epoch=e&seq=-1",
            "seq=%00",
            "seq=9007199254740992",
            "seq=" + "9" * 500,
        )
    ),
    get("1,001 parameters", "jobs/?" + "&".join(f"p{n}" for n in range(1001)), "fewer", 400),
    # Ids in paths.
    get("a job of another user", "jobs/{theirs}/", "The job does not exist", 404),
    get("the result of another user's job", "jobs/{theirs}/result/", "The job does not exist", 404),
    get("a job that does not exist", f"jobs/{NIL}/", "The job does not exist", 404),
    *(
        get(f"a job called {id}", f"jobs/{id}/", "no such path", 404)
        for id in (
            "1",
            "x",
            NIL[:-1],
            NIL + "0",
            NIL.replace("0", "G"),
            NIL.replace("-", ""),
            "%00",
            "%ff",
            "..",
            "%2e%2e",
        )
    ),
    get("a job in capitals", "jobs/{MINE}/", "no such path", 404),
    BadRequest(
        name="cancel another user's job",
        path=API + "jobs/{theirs}/cancel/",
        status=404,
        says="The job does not exist",
    ),
    BadRequest(
        name="retry another user's job",
        path=API + "jobs/{theirs}/retry/",
        status=404,
        says="The job does not exist",
    ),
    BadRequest(
        name="retry one that is queued",
        path=API + "jobs/{mine}/retry/",
        status=409,
        says="Only a failed or cancelled job",
    ),
    get("the result of one that is queued", "jobs/{mine}/result/", "not done", 409),
    # Paths and methods.
    get("a path that is not there", "job/", "no such path", 404),
    get("the root", "", "no such path", 404),
    get("no slash at the end", "jobs", "end with a slash", 404),
    BadRequest(name="no slash, posted", path=API + "notifications/read", status=404, says="end with a slash"),
    BadRequest(name="another verb", path=API + "notifications/destroy/", status=404, says="no such path"),
    *(
        BadRequest(name=f"{method} {path}", path=API + path, status=405, says=f"Use {use}", method=method)
        for method, path, use in (
            ("POST", "jobs/", "GET"),
            ("DELETE", "jobs/{mine}/", "GET"),
            ("PUT", "jobs/{mine}/", "GET"),
            ("PATCH", "notifications/", "GET"),
            ("OPTIONS", "sync/", "GET"),
            ("TRACE", "events/", "GET"),
            ("GET", "notifications/read/", "POST"),
            ("GET", "notifications/seen/", "POST"),
            ("HEAD", "jobs/{mine}/cancel/", "POST"),
            ("BREW", "jobs/", "GET"),
        )
    ),
    BadRequest(name="DELETE of reports", path="/reports/", status=405, says="Use GET or", method="DELETE"),
    # Accept.
    *(
        get(f"Accept: {accept}", path, "available as application/json only", 406, headers={"Accept": accept})
        for path, accept in (
            ("jobs/", "text/html"),
            ("jobs/{mine}/", "image/*"),
            ("notifications/", "application/problem+json"),
            ("sync/", "text/event-stream"),
            ("jobs/", "application/json;q=0"),
            ("jobs/", "application/json; q=0"),
            ("jobs/", f"application/json,{' ' * 2100}text/html"),
            ("jobs/", "*/*;q=0"),
            ("jobs/", "application"),
            ("jobs/", ";;;"),
            ("jobs/", "text/html;charset*=x'y'z"),
        )
    ),
    post_read(
        "Accept", b'{"up_to": 0}', "available as application/json only", 406, headers={"Accept": "text/html"}
    ),
    get(
        "Accept: json for events",
        "events/",
        "available as text/event-stream only",
        406,
        headers={"Accept": JSON},
    ),
    # Idempotency keys.
    *(
        post_with_key(name, key)
        for name, key in {
            "empty": "",
            "a blank": " ",
            "two words": "a b",
            "a tab": "a\tb",
            "201 characters": "x" * 201,
            "10,000 characters": "x" * 10_000,
            "Latin-1": "ä",
            "UTF-8": "ключ".encode().decode("latin-1"),
            "a NUL": "a\x00",
            "an escape": "\x1b[0m",
            "a newline": "a\nb",
        }.items()
    ),
    # CSRF.
    post_read("no CSRF token", b'{"up_to": 1}', "X-Csrftoken", 403, token=False),
    post_report("no CSRF token", b"{}", "X-CSRFToken", 403, token=False, headers={"Accept": JSON}),
]
