"""The files of finished jobs, and the objects in the storage."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.models import user_key, uuid7
from notifications.times import MomentField
from notifications.validators import MAX_NAME_LENGTH

require("notifications.contrib.files")

#: Characters of the name of a file, of its path in the storage, and of a content type.
MAX_FILE_NAME_LENGTH, MAX_PATH_LENGTH, MAX_CONTENT_TYPE_LENGTH = 150, 255, 100


class StoredObject(models.Model):
    """An object that is, or may be, in the storage. Inserted before the first byte, deleted after the last.

    ``fence``
        That of the execution that writes it. While that runs, the object is kept.
    ``step``
        The name of the step in which it was written, "" outside of steps: only a step that has returned is not called
        again when the job is executed again, so its file is that of a later execution too.
    ``size``
        Bytes, None until all of them are in the storage.
    ``check_at``
        When a duty looks whether the object is still the one of a file.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.UUIDField(_("job"), db_index=True)
    fence = models.BigIntegerField()
    step = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=MAX_PATH_LENGTH)
    name = models.CharField(_("name"), max_length=MAX_FILE_NAME_LENGTH)
    size = models.BigIntegerField(_("size"), null=True)
    content_type = models.CharField(max_length=MAX_CONTENT_TYPE_LENGTH)
    permission = models.CharField(max_length=MAX_NAME_LENGTH, blank=True)
    kept_seconds = models.BigIntegerField()
    check_at = MomentField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.path


class ResultFile(models.Model):
    """A file of a job that has succeeded. It has the id of its object. Inserted with the outcome of the job."""

    id = models.UUIDField(primary_key=True, editable=False)
    job = models.UUIDField(_("job"), db_index=True)
    user = user_key(null=True, verbose_name=_("owner"))
    path = models.CharField(max_length=MAX_PATH_LENGTH)
    name = models.CharField(_("name"), max_length=MAX_FILE_NAME_LENGTH)
    size = models.BigIntegerField(_("size"))
    content_type = models.CharField(_("content type"), max_length=MAX_CONTENT_TYPE_LENGTH)
    permission = models.CharField(_("permission"), max_length=MAX_NAME_LENGTH, blank=True)
    created_at = MomentField(_("created"))
    expires_at = MomentField(_("expires"))

    class Meta:
        verbose_name = _("file")
        verbose_name_plural = _("files")
        default_permissions = ()
        indexes = [models.Index(fields=["user", "-created_at"], name="notifications_file_of_user")]

    def __str__(self) -> str:
        return self.name
