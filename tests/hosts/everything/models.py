"""A user model of the project's own, whose keys are no numbers."""

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
    """What the views make beside the job, in the project's own database."""

    owner = models.ForeignKey(Person, models.CASCADE)
    year = models.IntegerField()

    def __str__(self):
        return f"Export {self.year}"
