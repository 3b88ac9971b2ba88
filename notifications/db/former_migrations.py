"""The migrations of commits before 0.9.0, none of which was released. Their databases cannot be migrated."""

_NAMES = """
    0002_engine 0002_former_databases 0002_job_lanes 0002_present_schema 0003_job_callbacks
    0003_job_engines 0003_worker_memory 0003_worker_outbound 0004_job_trace 0004_observed_jobs 0004_seams
    0004_waits 0005_failed_jobs 0005_former_columns 0005_job_handed_over_at 0005_ring_origin
    0005_schedules 0006_answer_question 0006_failed_jobs 0006_job_handed_over_at 0006_job_queued
    0006_overview 0007_job_lane 0007_open_question 0007_overview 0008_job_handed_over_at
    0008_notification_indexes 0008_output 0009_event_source 0009_job_lists 0009_job_statistics
    0009_stream_reading 0010_job_lists 0010_question_reminders 0010_stream_reading_index 0011_broadcasts
    0011_open_questions 0011_stream_seen 0012_receipts 0012_stream_seen 0013_jobs_of_user
    0013_pending_marks 0013_questions_index 0014_groups 0014_held_keys 0014_muted_categories
    0014_pending_marks 0014_requests_to_workers 0015_held_keys 0015_muted_categories 0016_broadcast_times
    0016_field_labels 0016_groups 0017_announced_states 0017_groups 0018_executor 0018_worker_brokers
    0019_isolated_lane 0019_snoozed 0020_duties 0020_schedule_announcement 0021_separate_columns
    0022_deliveries 0023_preferences 0024_webhooks 0025_push_subscriptions 0026_steps
    0027_delivery_attempts 0028_choices_before_mutes 0029_seen_marks 0030_job_callbacks 0031_waits
"""
#: The names of those of the core, by which such a database is known. No later migration has one of these names.
FORMER_MIGRATIONS = frozenset(_NAMES.split())
