"""A user model whose keys are not integers."""

import os
import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models


def new_key():
    return f"person:{uuid.uuid4().hex[:12]} ä"


class Person(AbstractUser):
    if os.environ["HOST_KEY"] == "uuid":
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    else:
        id = models.CharField(primary_key=True, max_length=40, default=new_key)


class Export(models.Model):
    """A row that views create beside the job, in the database of the project."""

    owner = models.ForeignKey(Person, models.CASCADE)
    year = models.IntegerField()

    def __str__(self):
        return f"Export {self.year}"
