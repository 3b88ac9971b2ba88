"""Tasks whose jobs are in the databases of releases, with these paths."""

from datetime import timedelta

from notifications.api import pause, policy, progress, task
from notifications.contrib.output import output
from notifications.contrib.questions import question
from notifications.contrib.steps import step
from notifications.contrib.webhooks import callback


@task
@policy(title="Send the receipts of {month}")
def send_receipts(month):
    progress(2, 3, "receipts")
    output("3 receipts\n")
    return step("receipts", dict, sent=3)


@task
@policy(title="Import the orders")
def import_orders():
    raise ValueError("The file has no rows.")


@task
@policy(title="Delete the account")
def delete_account():
    return question("Delete the account?", name="confirm", choices={"yes": "Delete", "no": "Keep"})


@task
@policy(title="Order a label")
def order_label():
    return callback("label").result()


@task
@policy(title="Send the reminder")
def send_reminder():
    pause("ten years", timedelta(days=3650))
