"""``jobs output``: what a job has written, and what it writes until it is done."""

from __future__ import annotations

import contextlib
import json
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from notifications.contrib.output.reading import read_next
from notifications.exceptions import JobDoesNotExist
from notifications.management import ManagementCommand

POLL_INTERVAL_SECONDS = 0.5


class OutputCommand(ManagementCommand):
    help = "print what a job writes, until it is done or Ctrl-C"
    examples = ("output 01a1f8f2-ae7a-7f43-862b-61a65fab0c49",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=self.job_id)

    def handle(self, *args: Any, id: UUID, **options: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            for text in follow_output(id):
                line = json.dumps({"text": text}) + "\n" if options["json"] else text
                self.stdout.write(line, ending="")
                self.stdout.flush()


def follow_output(job: UUID) -> Iterator[str]:
    """Yield the output of a job of any user, until the job is done."""
    offset, is_closed = 0, False
    while not is_closed:
        try:
            part = read_next(job, offset)
        except JobDoesNotExist:
            raise ManagementCommand.no_such_job(job) from None
        offset, is_closed = part.end, part.is_closed
        if part.data:
            yield part.plain_text
        elif not is_closed:
            time.sleep(POLL_INTERVAL_SECONDS)
