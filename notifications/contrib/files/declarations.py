"""What ``NOTIFICATIONS["FILES"]`` says: where files are stored, how large they may be, and who sends them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage, storages

from notifications.conf import settings

#: Who sends the bytes: Django, the storage by a redirect to its signed URL, or the server in front of Django, which the
#: header names.
RESPONSE, REDIRECT = "response", "redirect"
SENDFILE_HEADERS = ("X-Accel-Redirect", "X-Sendfile")
#: The alias of ``STORAGES``.
DEFAULT_STORAGE = "notifications_files"
#: The longest time for which a file can be downloaded.
MAX_KEEP = timedelta(days=3_650)
#: Bytes of a file: 1 GiB.
DEFAULT_MAX_BYTES = 1024**3
#: How to declare the storage, for remedies.
EXAMPLE = (
    f'Add to STORAGES: "{DEFAULT_STORAGE}": {{"BACKEND": "django.core.files.storage.FileSystemStorage", '
    '"OPTIONS": {"location": BASE_DIR / "files"}}. Its files must not be served at MEDIA_URL.'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSettings:
    """The options of ``FILES``.

    ``storage``
        An alias of ``STORAGES``, whose files only this app serves.
    ``max_bytes``
        Of one file.
    ``keep_days``
        For how long a file can be downloaded, unless its task says otherwise.
    ``send_by``
        ``"response"``, ``"redirect"``, ``"X-Accel-Redirect"`` or ``"X-Sendfile"``.
    ``internal_url``
        What stands before the path of a file in ``X-Accel-Redirect``: ``"/protected/"``.
    """

    storage: str = DEFAULT_STORAGE
    max_bytes: int = DEFAULT_MAX_BYTES
    keep_days: float = 30
    send_by: str = RESPONSE
    internal_url: str = ""


def read_settings() -> FileSettings:
    """Return what ``NOTIFICATIONS["FILES"]`` says. Raises ``ValueError`` for what it may not say."""
    options = settings.FILES
    if not isinstance(options, dict):
        raise ValueError(f"It is {options!r}, and must be a dict.")
    if unknown := sorted(map(str, options.keys() - {field.name for field in fields(FileSettings)})):
        raise ValueError(f"There is no option {unknown[0]!r}.")
    found = FileSettings(**options)
    for name, largest in (("max_bytes", 2**53), ("keep_days", MAX_KEEP.days)):
        value = getattr(found, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
            raise ValueError(f"{name} is {value!r}. It must be a number of more than 0, at most {largest:,}.")
    if found.send_by not in (RESPONSE, REDIRECT, *SENDFILE_HEADERS):
        raise ValueError(
            f"send_by is {found.send_by!r}. It must be response, redirect, {', '.join(SENDFILE_HEADERS)}."
        )
    url = str(found.internal_url)
    if found.send_by == SENDFILE_HEADERS[0] and not (url.startswith("/") and url.endswith("/")):
        raise ValueError(
            'With send_by="X-Accel-Redirect" internal_url must be a path of the server, "/protected/".'
        )
    return found


def check_sending(storage: Any) -> None:
    """Raise ``ValueError`` if files of this storage cannot be sent as ``FILES`` says."""
    send_by, is_local = read_settings().send_by, isinstance(storage, FileSystemStorage)
    if send_by == SENDFILE_HEADERS[1] and not is_local:
        raise ValueError(
            f'send_by is "{send_by}", and the storage is no FileSystemStorage. Set it to "{REDIRECT}".'
        )
    if send_by == REDIRECT and is_local:
        raise ValueError(
            f'send_by is "{send_by}", and the URLs of a FileSystemStorage have no signature: everybody could read '
            f'them. Set it to "{RESPONSE}", or to the header of the server in front.'
        )


def find_storage() -> Storage:
    """Return the storage of files: a folder of the project where ``STORAGES`` has none.

    Raises ``ImproperlyConfigured`` with the lines to add.
    """
    alias = read_settings().storage
    if alias == DEFAULT_STORAGE and alias not in storages.backends and hasattr(django_settings, "BASE_DIR"):
        return FileSystemStorage(Path(django_settings.BASE_DIR) / DEFAULT_STORAGE)
    try:
        return storages[alias]
    except InvalidStorageError as exc:
        raise ImproperlyConfigured(f"There is no storage of files: {exc} {EXAMPLE}") from exc


def is_public(storage: Any) -> bool:
    """Return whether the files of a storage are also those that the project serves to everybody."""
    media = django_settings.MEDIA_ROOT
    if not media or not isinstance(storage, FileSystemStorage):
        return False
    return Path(storage.location).resolve().is_relative_to(Path(media).resolve())
