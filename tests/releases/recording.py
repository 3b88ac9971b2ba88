"""Settings of a site whose statements are written to RECORDED_STATEMENTS: one of each form, with its values."""

import json
import os
import re

from django.db.backends.signals import connection_created

from tests.site_settings import *  # noqa: F403

_forms = set()


def _record(execute, sql, params, many, context):
    # Statements about few and about many rows are of one form.
    form = re.sub(r"(\(%s(, %s)*\)(, )?)+|%s(, %s)*", "?", sql)
    if "notifications_" in sql and form not in _forms:
        _forms.add(form)
        with open(os.environ["RECORDED_STATEMENTS"], "a") as file:
            values = params[0] if many and params else params
            file.write(f"{json.dumps([form, _with_values(context['connection'], sql, values)])}\n")
    return execute(sql, params, many, context)


def _with_values(db, sql, values):
    if not values:
        return sql if values is None else sql.replace("%%", "%")
    if db.vendor == "postgresql":
        return db.ops.compose_sql(sql, values)
    return db.ops.last_executed_query(None, sql, values)


def _install(connection, **kwargs):
    if connection.alias == "default" and _record not in connection.execute_wrappers:
        connection.execute_wrappers.append(_record)


connection_created.connect(_install)
