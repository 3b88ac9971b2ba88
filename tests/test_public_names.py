"""Optional apps, the site and the benchmarks use only names that a folder of the core exports in its `__init__.py`."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

ROOT = Path(__file__).resolve().parent.parent
#: The folders and modules of the core with names for others.
PUBLIC = (
    *("admin", "api", "conf", "db", "extension", "http", "inbox", "jobs", "management", "models", "outbound"),
    *("realtime", "streams", "times", "worker"),
)
#: The modules that projects import, besides `api`, `outbound` and `signals`. They are described in docs/reference/.
OF_PROJECTS = {"asgi", "exceptions", "management.commands.notifications", "testing", "urls"}
#: Folders that may export more: `extension` has the names of hooks, `outbound` is in the reference.
MAX_NAMES = 25
MAX_EXCEPTIONS = 610
#: What apps import from modules that are no business of theirs. This list only gets shorter.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "asyncsite": {
        "management.management_command": "ManagementCommand",
        "management.subcommands.prune": "PruneCommand",
    },
    "bench": {
        "api": "aquestion",
        "realtime.doorbell": "*",
        "worker.embedded": "*",
    },
    "broadcasts": {
        "admin.filters": "IndexedFilter LevelFilter",
        "admin.mixins": "ModelAdminBase OwnedMixin page_context",
        "admin.paging": "KeysetMixin",
        "compat": "Task",
        "context": "requester",
        "db.keyset": "count_rows",
        "db.transactions": "connection database fair_atomic retrying_atomic",
        "db.unavailable": "RETRIED_ERRORS UNAVAILABLE",
        "http.access": "BACKGROUND_MARK background_view",
        "ids": "parse_id uuid7",
        "jobs.declaring.own_tasks": "first_backend_alias first_queue_name own_task",
        "jobs.declaring.policies": "FinishedJob policy",
        "jobs.notifying": "chunk_size create_chunk create_notifications",
        "jobs.reader_languages": "read_languages",
        "jobs.transitions.manual": "*",
        "jobs.users": (
            "filter_active group_model has_holders has_user_field holders is_member require_permission"
        ),
        "models.streams": "NotificationLevel",
        "models.users": "user_key",
        "problems": "log_database_error",
        "states": "ACTIVE",
        "streams.building": "*",
        "templatetags.notifications": "csp_nonce",
        "validators": "*",
    },
    "celery": {
        "context": "current_execution enter_attempt save_attempt set_current_execution",
        "db.adapters": "user_keys_of",
        "db.bulk": "* lock_query lock_sql",
        "db.clock": "database_now is_lease_valid",
        "db.deadlines": "limit_this_thread",
        "db.signal_queue": "* SignalQueue",
        "db.supervised": "SupervisedThread",
        "db.threads": (
            "DaemonExecutor MAX_CONNECTION_SECONDS NoThread check_connections close_connections start_thread"
        ),
        "db.transactions": "chunks connection database in_callers_transaction on_commit retrying_atomic",
        "db.unavailable": "QUERY_ERRORS UNAVAILABLE is_unavailable log_if_not_migrated",
        "extension.calls": "HookName hook_of left_to_later",
        "extension.moved": "*",
        "ids": "uuid7",
        "jobs.claiming.candidates": "MIN_WAIT_SECONDS",
        "jobs.claiming.executors": "EAGER_QUEUE OBSERVED",
        "jobs.declaring.policies": "NotifyOption Policy title_from_name",
        "jobs.declaring.templates": "refuse_unknown_names",
        "jobs.notifying": "jobs_added",
        "jobs.outcomes": "* Outcome",
        "jobs.transitions.claims": "* PROGRESS_COLUMNS claim_of",
        "jobs.transitions.conditional_updates": "conditional_update prepare_id update_locked_rows",
        "jobs.transitions.enqueueing": "owner_key",
        "jobs.transitions.notify_functions": "* record_apart",
        "jobs.transitions.queueing": "*",
        "jobs.transitions.recording": "end_jobs finish_jobs record_attempts run_recording",
        "management.diagnosis.checking": "register",
        "management.diagnosis.jobs": "MAX_QUEUES_NAMED",
        "management.diagnosis.processes": "QUEUE_PREFIX live_observers",
        "states": "ACTIVE",
        "templatetags.notifications": "exact_time",
        "upkeep": "Upkeep",
        "validators": "*",
        "worker.execution": "Execution",
        "worker.held_outcomes": "FIRST_PAUSE_SECONDS MAX_PAUSE_SECONDS",
        "worker.lease": "Lease find_dead_neighbors",
    },
    "deliveries": {
        "": "*",
        "admin.filters": "UserFilter",
        "admin.mixins": "OwnedMixin ReadOnlyMixin page_context",
        "compat": "HAS_EMAIL_POLICIES mail_backend",
        "context": "requester",
        "db.adapters": "adapter user_from_db user_to_db",
        "db.bulk": "* lock_name lock_query",
        "db.clock": "database_now database_now_sql",
        "db.threads": "close_when_idle",
        "db.transactions": "MAX_ROWS_PER_TRANSACTION chunks connection database fair_atomic retrying_atomic",
        "db.unavailable": (
            "DATABASE_UNAVAILABLE RETRIED_ERRORS UNAVAILABLE is_query_error is_unavailable "
            "retry_while_unavailable"
        ),
        "extension.channels": "MAX_NAME_LENGTH",
        "http.access": (
            "* View api_view database_unavailable_page exempt_from_project json_response "
            "leave_out_of_log page_view text_response"
        ),
        "http.negotiation": "is_not_modified",
        "http.parsing": "describe_browser header parse_integer parse_json_object",
        "ids": "parse_id uuid7",
        "inbox.actions": "describe_actions",
        "inbox.categories": (
            "* ALERTS BELL Category Choice choices_of label_of list_channels load_categories sort_by_name"
        ),
        "inbox.forms": "redirect",
        "inbox.lists": "read_categories",
        "inbox.query": "UNDONE VIEWS parse_query",
        "inbox.timeline": "read_timeline",
        "jobs.claiming.executors": "EMAIL SENDER",
        "jobs.declaring.own_tasks": "MAX_PER_USER own_task sender_queue_name",
        "jobs.declaring.policies": "policy",
        "jobs.declaring.tasks": "stores_jobs",
        "jobs.durable_calls": "apause pause",
        "jobs.group_texts": "describe_group name_people read_jobs",
        "jobs.notifying": "insert_jobs",
        "jobs.outcomes": "end_key",
        "jobs.transitions.batch_completion": "is_batch",
        "jobs.users": "Recipient read_recipient read_users",
        "management.diagnosis.checking": "register",
        "management.management_command": "ManagementCommand",
        "management.subcommands.job_verbs": "user_key_of",
        "models.streams": "NotificationLevel",
        "models.users": "UserPrimaryKey user_key",
        "outbound.guard": "Forbidden check_target parse",
        "paths": "* absolute",
        "problems": "Problem log_database_error",
        "serializers": "*",
        "states": "ACTIVE",
        "streams.grouping": "Group read_actor_name",
        "streams.icons": "*",
        "streams.marking_seen": "seen_positions",
        "streams.positions": "*",
        "templatetags.notifications": "script_element",
        "testing.inline": "InlineRun clock",
        "upkeep": "Upkeep run_all",
        "validators": "*",
    },
    "engines": {
        "compat": "Task TaskResultDoesNotExist is_test_runner task_backends",
        "db.clock": "database_now database_now_sql is_lease_valid",
        "db.signal_queue": "* SignalQueue",
        "db.supervised": "SupervisedThread",
        "db.threads": "DaemonExecutor NoThread check_connections start_thread",
        "db.transactions": "connection database on_commit_merged",
        "db.unavailable": "QUERY_ERRORS log_if_not_migrated",
        "extension.duty": "Condition",
        "jobs.backend": "find_job_backends",
        "jobs.claiming.backlog": "WaitWarning queue_depths read_moment waiting_jobs",
        "jobs.claiming.candidates": "* MIN_WAIT_SECONDS full_queues has_limited_jobs",
        "jobs.claiming.claim_queries": "PAUSED_QUEUES values_of_executors",
        "jobs.claiming.executors": (
            "ASYNC CLAIMED_EXECUTORS EMAIL PROJECT_EXECUTORS QUARANTINED SENDER SYNC WOKEN kind_of"
        ),
        "jobs.claiming.queues": "paused_queues queue_limits",
        "jobs.claiming.sources": "BackendQueue Query Source names_of queued_jobs",
        "jobs.declaring.policies": "Policy",
        "jobs.declaring.tasks": "aliases_with_engines has_engine has_job_tasks",
        "jobs.outcomes": "Outcome",
        "jobs.transitions.claims": "ClaimedJob DEADLINE_MARGIN_SECONDS",
        "management.diagnosis.checking": "explain register",
        "management.diagnosis.processes": "measure_round_trip",
        "realtime.doorbell": "*",
        "upkeep": "Upkeep",
        "worker.claim_loop": "ClaimLoop MAX_CLAIM_BATCH",
        "worker.loops": "*",
        "worker.state": "MAX_SYNC_THREADS WorkerState",
        "worker.worker": "JobWorker",
    },
    "hq": {
        "db.bulk": "*",
        "db.transactions": "connection database fair_atomic",
        "management.management_command": "ManagementCommand",
        "management.output": "ProgressLine",
        "validators": "*",
    },
    "operations": {
        "admin.confirmation": "LOG_TEXTS ask question read_form",
        "admin.filters": (
            "FormFilter JOB_FILTERS JobListFilter NotificationUserFilter other_parameters read_filter"
        ),
        "admin.mixins": "ReadOnlyMixin list_url page_context reports_database_errors",
        "compat": "task_backends",
        "context": "requester running_attempt",
        "db.adapters": "user_from_db",
        "db.clock": "database_now estimated_database_now is_lease_valid longest_lease",
        "db.transactions": "connection database retrying_atomic",
        "db.unavailable": "UNAVAILABLE",
        "http.access": "BACKGROUND_MARK background_view exempt_from_project is_signed_in",
        "ids": "* parse_id process_number",
        "inbox.categories": "ALERTS",
        "jobs.arguments": "find_jobs",
        "jobs.changing": "*",
        "jobs.claiming.backlog": (
            "LargeShare MAX_QUEUES QueueDepth RunningJobs claiming_workers count_waiting "
            "queue_depths read_large_shares read_moment read_running"
        ),
        "jobs.claiming.executors": "CLAIMED_EXECUTORS OBSERVED",
        "jobs.claiming.queues": "* paused_queues",
        "jobs.declaring.own_tasks": "first_backend_alias first_queue_name own_task",
        "jobs.declaring.policies": "FinishedJob policy",
        "jobs.declaring.tasks": "has_engine has_job_tasks",
        "jobs.job_context": "progress",
        "jobs.outcomes": "Outcome",
        "jobs.selection": "JobFilter failed_jobs_sql failure_of",
        "jobs.transitions.claims": "DEADLINE_MARGIN_SECONDS",
        "jobs.users": "filter_active has_holders holders require_permission",
        "management.diagnosis.checking": "register",
        "management.management_command": "ManagementCommand",
        "paths": "*",
        "problems": "Problem exceptions_as_problems log_database_error prevent_caching",
        "realtime.connections": "LEASE_SECONDS",
        "realtime.doorbell": "*",
        "states": "ACTIVE sql_list",
        "templatetags.notifications_formats": "duration rate",
        "upkeep": "Upkeep",
        "validators": "* shortened",
        "worker.held_outcomes": "read_failing_hooks",
    },
    "output": {
        "context": "current_execution",
        "db.bulk": "*",
        "db.transactions": "database retrying_atomic",
        "db.unavailable": "QUERY_ERRORS UNAVAILABLE",
        "http.access": "async_api_view check_request",
        "http.authentication": "make_check",
        "http.negotiation": "is_not_modified",
        "http.parsing": "header",
        "http.stream_views": "set_event_headers",
        "http.waiting_requests": "WaitSlot release_connections require_wait_slot",
        "jobs.outcomes": "Outcome",
        "jobs.transitions.claims": "Claim claim_of",
        "jobs.transitions.conditional_updates": "is_claim_valid read_fences",
        "management.management_command": "ManagementCommand",
        "management.subcommands.job_verbs": "job_id no_such_job",
        "problems": "DATABASE_RETRY_SECONDS Problem prevent_caching",
        "realtime.auth.sessions": "authenticating_session_key",
        "realtime.close_reasons": "* Bye",
        "realtime.frames": "Frame",
        "realtime.hub": "* Hub",
        "realtime.transports.poll": "WaitingRequest",
        "realtime.transports.sse": "EventStream",
        "states": "DONE",
        "validators": "*",
        "worker.execution": "Execution",
        "worker.loops": "*",
        "worker.state": "WorkerState",
    },
    "questions": {
        "context": "CurrentExecution",
        "db.adapters": "user_keys_of",
        "db.bulk": "lock_query",
        "db.clock": "database_now database_now_sql",
        "db.transactions": "MAX_ROWS_PER_TRANSACTION database fair_atomic",
        "extension.calls": "left_to_later",
        "http.access": "api_view json_response page_view",
        "http.parsing": "describe_browser header parse_json_object",
        "inbox.pages": "describe_notification",
        "jobs.durable_calls": "steps_of validate_duration",
        "jobs.notifying": "number prepare_hooks record_change",
        "jobs.reader_languages": "has_lazy read_site_languages",
        "jobs.step_list": "read_steps",
        "jobs.transitions.waiting": "insert_notifications_of update_waiting_jobs",
        "jobs.users": (
            "filter_active finds_holders has_holders has_user_field holders is_group is_member "
            "name_of read_active read_user"
        ),
        "jobs.waits": "Finish Make await_for_all end_stored wait_for_all",
        "management.subcommands.job_verbs": "JobVerb job_id",
        "paths": "*",
        "problems": "Problem",
        "serializers": "*",
        "streams.building": "*",
        "streams.positions": "*",
        "templatetags.notifications": "script_element",
        "upkeep": "Search Upkeep run_all",
        "validators": "*",
    },
    "schedules": {
        "admin.mixins": "ReadOnlyMixin list_url reports_database_errors",
        "compat": "normalize_json should_send signature_of task_enqueued",
        "db.bulk": "* lock_query",
        "db.clock": "database_now is_lease_valid",
        "db.transactions": "chunks database on_commit retrying_atomic",
        "db.unavailable": "QUERY_ERRORS is_query_error is_unavailable",
        "jobs.declaring.tasks": "stores_jobs",
        "jobs.results": "* find_task",
        "management.diagnosis.checking": "register",
        "management.management_command": "ManagementCommand common_options",
        "paths": "*",
        "states": "ACTIVE",
        "tracing.spans": "*",
        "tracing.trace_context": "*",
        "upkeep": "Upkeep",
        "validators": "*",
    },
    "slack": {
        "paths": "absolute",
    },
    "steps": {
        "context": "CurrentExecution entered_step",
        "db.bulk": "*",
        "db.transactions": "database retrying_atomic",
        "db.unavailable": "UNAVAILABLE",
        "jobs.durable_calls": (
            "acall_when_available begin call_when_available is_stored may_have_stored "
            "refuse_in_transaction refuse_on_event_loop steps_of"
        ),
        "jobs.step_list": "* StoredStep describe_json read_redacted",
        "jobs.transitions.conditional_updates": "is_claim_valid read_fences",
        "validators": "*",
        "worker.execution": "Execution",
        "worker.loops": "*",
        "worker.state": "WorkerState",
    },
    "webhooks": {
        "admin.mixins": "OwnedMixin list_url reports_database_errors",
        "compat": "signature_of task_backends",
        "context": "CurrentExecution current_execution",
        "db.adapters": "user_from_db user_keys_of user_to_db",
        "db.bulk": "* lock_name lock_query",
        "db.clock": "database_now",
        "db.keyset": "*",
        "db.threads": "NoThread close_connections start_thread",
        "db.transactions": "connection database retrying_atomic",
        "db.unavailable": "RETRIED_ERRORS retry_while_unavailable",
        "http.access": "api_view exempt_from_project json_response leave_out_of_log",
        "http.api_views": "DEFAULT_PAGE_SIZE MAX_PAGE_SIZE",
        "http.job_responses": "job_response",
        "http.parsing": (
            "body_errors_as_problems body_too_large check_content_length parse_integer "
            "parse_json_object parse_limit parse_uuids"
        ),
        "ids": "uuid7",
        "jobs.claiming.executors": "SENDER",
        "jobs.declaring.own_tasks": "MAX_PER_USER own_task sender_queue_name",
        "jobs.declaring.policies": "job_concurrency_key job_title policy sender_key",
        "jobs.declaring.tasks": "JobOptions JobTask stores_jobs",
        "jobs.durable_calls": (
            "acall_when_available begin_wait call_when_available is_stored refuse_in_transaction "
            "refuse_on_event_loop suspend validate_duration"
        ),
        "jobs.limits": "limit_request retry_within_rate",
        "jobs.notifying": "notify signaled_tasks",
        "jobs.outcomes": "Outcome",
        "jobs.results": "find_task",
        "jobs.transitions.manual": "*",
        "jobs.users": "read_recipient",
        "jobs.waits": "end_stored",
        "models.users": "user_key",
        "outbound.guard": "Forbidden check_target parse",
        "paths": "*",
        "problems": "Problem exceptions_as_problems prevent_caching",
        "serializers": "* make_item",
        "states": "ACTIVE",
        "tracing.trace_context": "*",
        "validators": "* MAX_URL_LENGTH",
    },
}


def name_of(path):
    """Return the dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def app_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[2].removesuffix(".py") if parts[0] == "notifications" else parts[0]


def list_exports(module):
    """Return the names that a folder or module of the core exports."""
    path = ROOT / "notifications" / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    exported = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            exported |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported |= set(ast.literal_eval(node.value))
    if not path.is_dir() or module == "models":
        tree = ast.parse(source.read_text())
        exported |= {
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"
        }
        exported |= {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id[0] != "_"
        }
    return exported


def read_imports():
    """Yield the app, the module of the core without `notifications.`, and the name, of each import of the core."""
    folders = ("notifications/contrib", "asyncsite", "bench")
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        package = name_of(path).split(".")
        if path.name != "__init__.py":
            package.pop()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                parents = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*parents, *([node.module] if node.module else [])])
                found = [(module, alias.name) for alias in node.names]
            else:
                continue
            for module, name in found:
                is_module = (ROOT / module.replace(".", "/") / name).is_dir() or (
                    ROOT / module.replace(".", "/") / f"{name}.py"
                ).exists()
                if is_module:
                    module, name = f"{module}.{name}", ""
                parts = module.split(".")
                if parts[0] == "notifications" and parts[1:2] != ["contrib"]:
                    yield app_of(path), ".".join(parts[1:]), name


def find_private_imports():
    """Return what each app imports that is exported by no folder: its names by module, "" for the module itself."""
    exports = {module: list_exports(module) for module in PUBLIC}
    found = defaultdict(lambda: defaultdict(set))
    for app, module, name in read_imports():
        if module in OF_PROJECTS or (module in PUBLIC and (not name or name in exports[module])):
            continue
        found[app][module].add(name or "*")
    return {
        app: {module: " ".join(sorted(names)) for module, names in sorted(modules.items())}
        for app, modules in sorted(found.items())
    }


def test_apps_import_what_the_core_exports():
    """What our own apps use, an app of a stranger may use; what is behind it can be rewritten."""
    assert find_private_imports() == EXCEPTIONS


def test_there_are_few_exceptions():
    count = sum(len(names.split()) for modules in EXCEPTIONS.values() for names in modules.values())
    assert count <= MAX_EXCEPTIONS
