"""Why push services refuse messages: the reason that their answers give, and the remedy for each cause."""

from __future__ import annotations

import json
from typing import Any

from notifications.validators import printable, shortened

#: Bytes of an answer that are read, and characters of the reason in it. Anybody may have written it: users choose their
#: push services.
MAX_BODY_BYTES, MAX_REASON_LENGTH = 1024, 200
#: What answers say, in lower case, if the browser has subscribed with another key of the site: Apple's
#: VapidPkHashMismatch, the sentences of Google's and Mozilla's services.
_OF_ANOTHER_KEY = ("vapidpkhashmismatch", "do not correspond to the credentials", "key mismatch")
#: What they say of a signature that they do not accept, such as Apple's BadJwtToken.
_OF_SIGNATURE = ("jwt", "vapid", "token", "authorization")
_SIGNATURE_STATUSES = (401, 403)
#: Characters in a row that a word of a reason may not have in common with the endpoint.
SECRET_LENGTH = 10

ANOTHER_KEY, SIGNATURE, OTHER = "another key", "signature", "other"
#: What to do about each cause.
REMEDIES = {
    ANOTHER_KEY: "Set the earlier private_key of NOTIFICATIONS['WEB_PUSH'] again if it is known. Otherwise each "
    "browser subscribes anew when its user opens the page of devices.",
    SIGNATURE: "The signature is not accepted. Check that the subject of NOTIFICATIONS['WEB_PUSH'] is an address at a "
    "public domain (check W052), that the clock of this machine is right, and that private_key is the key with which "
    "the browsers have subscribed.",
    OTHER: "The documentation of the push service says what its answer means.",
}


def parse_reason(body: bytes, endpoint: str) -> str:
    """Return the reason that the answer of a push service gives, a word or a line; ``""`` for none.

    ``endpoint``
        The URL that was called. Who knows it may send to the browser, and the answer may repeat it: words that are
        URLs or have a part of it are left out.
    """
    text = body.decode(errors="replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = "" if text.startswith("<") else text.partition("\n")[0]  # a page of HTML has none
    if isinstance(value, dict):
        value = next((value[key] for key in ("reason", "message", "error") if _is_text(value.get(key))), "")
    if not _is_text(value):
        return ""
    words = [
        word
        for word in printable(value).split()
        if "/" not in word and not _shares_characters(word.lower(), endpoint.lower())
    ]
    return shortened(" ".join(words), MAX_REASON_LENGTH)


def _shares_characters(word: str, endpoint: str) -> bool:
    ends = range(SECRET_LENGTH, len(word) + 1)
    return any(word[end - SECRET_LENGTH : end] in endpoint for end in ends)


def find_cause(status: int, reason: str) -> str:
    """Return the cause of a refusal, of ``REMEDIES``."""
    text = reason.lower()
    if is_of_another_key(reason):
        return ANOTHER_KEY
    if status in _SIGNATURE_STATUSES and (not text or any(words in text for words in _OF_SIGNATURE)):
        return SIGNATURE
    return OTHER


def is_of_another_key(reason: str) -> bool:
    """Return whether a push service says that the browser has subscribed with another key."""
    return any(words in reason.lower() for words in _OF_ANOTHER_KEY)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
