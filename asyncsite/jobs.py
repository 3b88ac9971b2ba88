"""The jobs of reports, read through the app's public API."""

from notifications.api import get_jobs


def find_jobs(reports):
    """Return the JobInfo of each report whose job is stored, by job id."""
    return get_jobs([report.job_id for report in reports if report.job_id])


def find_job(report):
    """Return the JobInfo of a report, or None if its job is no longer stored."""
    return find_jobs([report]).get(report.job_id)


def has_active_job(report):
    job = find_job(report)
    return job is not None and not job.is_done


def is_asked(report):
    """Return whether the owner of a report is asked, or about to be, whether it is to be public."""
    id = report.publication_id
    return bool(id and any(not job.is_done for job in get_jobs([id]).values()))
