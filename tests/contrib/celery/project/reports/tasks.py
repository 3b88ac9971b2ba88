from celery import shared_task


@shared_task
def make_report(user_id, year):
    return sum(range(year))
