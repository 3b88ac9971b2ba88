-- 0001_streams
CREATE TABLE "notifications_epoch" ("id" smallint NOT NULL PRIMARY KEY, "value" char(32) NOT NULL);
CREATE TABLE "notifications_stream" ("user_id" integer NOT NULL PRIMARY KEY, "head" bigint NOT NULL, "floor" bigint NOT NULL, "unread" bigint NOT NULL, "guard" bigint NOT NULL);
CREATE TABLE "notifications_worker" ("id" char(32) NOT NULL PRIMARY KEY, "host" varchar(255) NOT NULL, "process" varchar(255) NOT NULL, "started_at" datetime NOT NULL, "lease_until" datetime NOT NULL, "queues" varchar(1000) NOT NULL, "concurrency" integer unsigned NOT NULL CHECK ("concurrency" >= 0), "load" integer unsigned NOT NULL CHECK ("load" >= 0), "outbound" text NOT NULL);
CREATE TABLE "notifications_job" ("id" char(32) NOT NULL PRIMARY KEY, "seq" bigint NULL, "version" bigint NOT NULL, "task_path" varchar(500) NOT NULL, "args" text NOT NULL, "kwargs" text NOT NULL, "backend" varchar(100) NOT NULL, "queue_name" varchar(100) NOT NULL, "priority" smallint NOT NULL, "run_after" datetime NULL, "state" varchar(10) NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "max_attempts" integer unsigned NOT NULL CHECK ("max_attempts" >= 0), "worker" char(32) NULL, "fence" bigint NOT NULL, "deadline" datetime NULL, "progress_current" bigint NULL, "progress_total" bigint NULL, "progress_message" varchar(200) NOT NULL, "result" text NULL, "error" text NULL, "title" varchar(200) NOT NULL, "url" varchar(1000) NOT NULL, "language" varchar(20) NOT NULL, "trace" varchar(800) NOT NULL, "idempotency_key" varchar(200) NOT NULL, "idempotency_hash" varchar(64) NOT NULL, "idempotency_expires_at" datetime NULL, "concurrency_key" varchar(200) NOT NULL, "batch" char(32) NULL, "cancel_requested_at" datetime NULL, "cancelled_by_other" bool NOT NULL, "created_at" datetime NOT NULL, "queued_at" datetime NOT NULL, "started_at" datetime NULL, "finished_at" datetime NULL, "user_id" integer NULL);
CREATE TABLE "notifications_attempt" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "number" integer unsigned NOT NULL CHECK ("number" >= 0), "worker" char(32) NULL, "started_at" datetime NULL, "ended_at" datetime NOT NULL, "outcome" varchar(10) NOT NULL, "exception_class_path" varchar(500) NOT NULL, "traceback" text NOT NULL, "job_id" char(32) NOT NULL);
CREATE TABLE "notifications_notification" ("id" char(32) NOT NULL PRIMARY KEY, "seq" bigint NULL, "raised" bigint NULL, "counted" bool NOT NULL, "level" varchar(10) NOT NULL, "category" varchar(100) NOT NULL, "title" varchar(200) NOT NULL, "body" text NOT NULL, "url" varchar(1000) NOT NULL, "job" char(32) NULL, "data" text NOT NULL, "key" varchar(200) NOT NULL, "created_at" datetime NOT NULL, "read_at" datetime NULL, "archived_at" datetime NULL, "user_id" integer NOT NULL);
CREATE TABLE "notifications_ring" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "origin" bigint NULL, "user_id" integer NULL);
CREATE TABLE "notifications_queue" ("name" varchar(100) NOT NULL PRIMARY KEY, "paused_at" datetime NULL);
CREATE INDEX "notifications_job_seq" ON "notifications_job" ("user_id", "seq");
CREATE INDEX "notifications_job_user" ON "notifications_job" ("user_id", "id");
CREATE INDEX "notifications_job_unnumbered" ON "notifications_job" ("user_id", "id") WHERE "seq" IS NULL;
CREATE INDEX "notifications_job_active" ON "notifications_job" ("user_id", "queued_at") WHERE ("seq" = 0 AND "user_id" IS NOT NULL);
CREATE INDEX "notifications_job_ready" ON "notifications_job" ("priority" DESC, "id") WHERE ("run_after" IS NULL AND "state" = 'queued');
CREATE INDEX "notifications_job_delayed" ON "notifications_job" ("run_after", "id") WHERE ("run_after" IS NOT NULL AND "state" = 'queued');
CREATE INDEX "notifications_job_running" ON "notifications_job" ("worker", "id") WHERE "state" = 'running';
CREATE INDEX "notifications_job_finished" ON "notifications_job" ("finished_at") WHERE "finished_at" IS NOT NULL;
CREATE INDEX "notifications_job_queued" ON "notifications_job" ("queue_name", "run_after", "priority" DESC, "id") WHERE "state" LIKE 'queued%' ESCAPE '\';
CREATE INDEX "notifications_job_keyed" ON "notifications_job" ("queue_name", "concurrency_key", "run_after", "priority" DESC, "id") WHERE "state" LIKE '%queued' ESCAPE '\';
CREATE INDEX "notifications_job_batch" ON "notifications_job" ("batch", "state") WHERE "batch" IS NOT NULL;
CREATE UNIQUE INDEX "notifications_job_key" ON "notifications_job" ("user_id", "idempotency_key") WHERE ("user_id" IS NOT NULL AND NOT ("idempotency_key" = ''));
CREATE UNIQUE INDEX "notifications_job_key_nobody" ON "notifications_job" ("idempotency_key") WHERE ("user_id" IS NULL AND NOT ("idempotency_key" = ''));
CREATE INDEX "notifications_n_seq" ON "notifications_notification" ("user_id", "seq");
CREATE INDEX "notifications_n_raised" ON "notifications_notification" ("user_id", "raised");
CREATE INDEX "notifications_n_unnumbered" ON "notifications_notification" ("user_id", "id") WHERE "seq" IS NULL;
CREATE INDEX "notifications_n_key" ON "notifications_notification" ("user_id", "key") WHERE ("archived_at" IS NULL AND "read_at" IS NULL AND NOT ("key" = ''));
CREATE INDEX "notifications_n_unread" ON "notifications_notification" ("user_id", "raised") WHERE "read_at" IS NULL;
CREATE INDEX "notifications_n_archived" ON "notifications_notification" ("archived_at") WHERE "archived_at" IS NOT NULL;
CREATE INDEX "notifications_n_inbox" ON "notifications_notification" ("user_id", "raised") WHERE "archived_at" IS NULL;
CREATE INDEX "notifications_attempt_job_id_46dd425c" ON "notifications_attempt" ("job_id");
-- 0002_job_lanes
ALTER TABLE "notifications_job" ADD COLUMN "lane" varchar(10) DEFAULT 'sync' NOT NULL;
DROP INDEX IF EXISTS "notifications_job_ready";
CREATE INDEX "notifications_job_ready" ON "notifications_job" ("lane", "priority" DESC, "id") WHERE ("run_after" IS NULL AND "state" = 'queued');
DROP INDEX IF EXISTS "notifications_job_queued";
CREATE INDEX "notifications_job_queued" ON "notifications_job" ("queue_name", "lane", "run_after", "priority" DESC, "id") WHERE "state" LIKE 'queued%' ESCAPE '\';
DROP INDEX IF EXISTS "notifications_job_keyed";
CREATE INDEX "notifications_job_keyed" ON "notifications_job" ("queue_name", "lane", "concurrency_key", "run_after", "priority" DESC, "id") WHERE "state" LIKE '%queued' ESCAPE '\';
CREATE INDEX "notifications_n_inbox_unread" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NULL AND "read_at" IS NULL);
CREATE INDEX "notifications_n_inbox_read" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NULL AND "read_at" IS NOT NULL);
CREATE INDEX "notifications_n_arch_unread" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NOT NULL AND "read_at" IS NULL);
CREATE INDEX "notifications_n_arch_read" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NOT NULL AND "read_at" IS NOT NULL);
CREATE INDEX "notifications_n_open_key" ON "notifications_notification" ((COALESCE("user_id", "user_id")), "key") WHERE (COALESCE("read_at", "archived_at") IS NULL AND NOT ("key" = ''));
DROP INDEX IF EXISTS "notifications_n_raised";
DROP INDEX IF EXISTS "notifications_n_unread";
DROP INDEX IF EXISTS "notifications_n_inbox";
DROP INDEX IF EXISTS "notifications_n_key";
ALTER TABLE "notifications_stream" ADD COLUMN "read_after" bigint NULL;
ALTER TABLE "notifications_stream" ADD COLUMN "read_up_to" bigint NULL;
CREATE INDEX "notifications_stream_reading" ON "notifications_stream" ("user_id") WHERE "read_up_to" IS NOT NULL;
-- 0003_job_engines
ALTER TABLE "notifications_job" ADD COLUMN "hand_over_at" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "handovers" integer unsigned DEFAULT '0' NOT NULL;
CREATE INDEX "notifications_job_handed" ON "notifications_job" ("hand_over_at", "id") WHERE ("lane" = 'handed' AND "state" = 'queued');
-- 0004_observed_jobs
CREATE INDEX "notifications_job_observed" ON "notifications_job" ("deadline", "id") WHERE ("lane" = 'observed' AND "state" = 'queued');
-- 0005_schedules
CREATE TABLE "notifications_schedule" ("name" varchar(100) NOT NULL PRIMARY KEY, "timing" varchar(300) NOT NULL, "task_path" varchar(500) NOT NULL, "created_at" datetime NOT NULL, "paused_at" datetime NULL, "next_tick" datetime NULL, "last_tick" datetime NULL, "problem" varchar(10) NOT NULL, "problem_since" datetime NULL, "problem_job" char(32) NULL, "announcement" varchar(10) NOT NULL, "announcement_text" varchar(500) NOT NULL);
CREATE TABLE "notifications_tick" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "due_at" datetime NOT NULL, "first_due_at" datetime NULL, "count" bigint unsigned NOT NULL CHECK ("count" >= 0), "outcome" varchar(10) NOT NULL, "detail" varchar(500) NOT NULL, "is_manual" bool NOT NULL, "job" char(32) NULL, "job_state" varchar(10) NOT NULL, "recorded_at" datetime NOT NULL, "schedule_id" varchar(100) NOT NULL, CONSTRAINT "notifications_tick_due" UNIQUE ("schedule_id", "due_at"));
CREATE INDEX "notifications_tick_open" ON "notifications_tick" ("schedule_id", "id") WHERE ("job_state" = '' AND "outcome" = 'enqueued');
CREATE INDEX "notifications_tick_recorded" ON "notifications_tick" ("recorded_at");
ALTER TABLE "notifications_job" ADD COLUMN "schedule" varchar(100) DEFAULT '' NOT NULL;
-- 0006_failed_jobs
ALTER TABLE "notifications_attempt" ADD COLUMN "location" varchar(300) DEFAULT '' NOT NULL;
CREATE INDEX "notifications_job_failed" ON "notifications_job" ("finished_at") WHERE "state" = 'failed';
-- 0007_overview
CREATE TABLE "notifications_alertstate" ("id" smallint NOT NULL PRIMARY KEY, "evaluated_at" datetime NOT NULL, "worker_seen_at" datetime NOT NULL, "lease_lost_at" datetime NULL, "lost_worker" varchar(511) NOT NULL);
CREATE TABLE "notifications_serverprocess" ("id" char(32) NOT NULL PRIMARY KEY, "host" varchar(255) NOT NULL, "pid" bigint unsigned NOT NULL CHECK ("pid" >= 0), "started_at" datetime NOT NULL, "lease_until" datetime NOT NULL, "sockets" integer unsigned NOT NULL CHECK ("sockets" >= 0), "users" integer unsigned NOT NULL CHECK ("users" >= 0));
CREATE TABLE "notifications_alert" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "kind" varchar(20) NOT NULL, "subject" varchar(200) NOT NULL, "detail" varchar(500) NOT NULL, "opened_at" datetime NOT NULL, "seen_at" datetime NOT NULL, "closed_at" datetime NULL);
CREATE UNIQUE INDEX "notifications_alert_open" ON "notifications_alert" ("kind", "subject") WHERE "closed_at" IS NULL;
-- 0008_job_handed_over_at
ALTER TABLE "notifications_job" ADD COLUMN "handed_over_at" datetime NULL;
-- 0009_job_statistics
CREATE TABLE "notifications_jobstatistics" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "period" smallint NOT NULL, "shard" bigint NOT NULL, "start" bigint NOT NULL, "queue_name" varchar(100) NOT NULL, "task_path" varchar(500) NOT NULL, "outcome" varchar(10) NOT NULL, "count" bigint NOT NULL, "enqueued" bigint NOT NULL, "wait_microseconds" bigint NOT NULL, "run_microseconds" bigint NOT NULL, "wait_0" bigint NULL, "wait_1" bigint NULL, "wait_2" bigint NULL, "wait_3" bigint NULL, "wait_4" bigint NULL, "wait_5" bigint NULL, "wait_6" bigint NULL, "wait_7" bigint NULL, "wait_8" bigint NULL, "wait_9" bigint NULL, "wait_10" bigint NULL, "wait_11" bigint NULL, "wait_12" bigint NULL, "wait_13" bigint NULL, "wait_14" bigint NULL, "wait_15" bigint NULL, "wait_16" bigint NULL, "wait_17" bigint NULL, "wait_18" bigint NULL, "wait_19" bigint NULL, "wait_20" bigint NULL, "wait_21" bigint NULL, "wait_22" bigint NULL, "wait_23" bigint NULL, "wait_24" bigint NULL, "wait_25" bigint NULL, "wait_26" bigint NULL, "wait_27" bigint NULL, "run_0" bigint NULL, "run_1" bigint NULL, "run_2" bigint NULL, "run_3" bigint NULL, "run_4" bigint NULL, "run_5" bigint NULL, "run_6" bigint NULL, "run_7" bigint NULL, "run_8" bigint NULL, "run_9" bigint NULL, "run_10" bigint NULL, "run_11" bigint NULL, "run_12" bigint NULL, "run_13" bigint NULL, "run_14" bigint NULL, "run_15" bigint NULL, "run_16" bigint NULL, "run_17" bigint NULL, "run_18" bigint NULL, "run_19" bigint NULL, "run_20" bigint NULL, "run_21" bigint NULL, "run_22" bigint NULL, "run_23" bigint NULL, "run_24" bigint NULL, "run_25" bigint NULL, "run_26" bigint NULL, "run_27" bigint NULL, CONSTRAINT "notifications_statistics_key" UNIQUE ("period", "shard", "start", "queue_name", "task_path", "outcome"));
CREATE INDEX "notifications_statistics_new" ON "notifications_jobstatistics" ("shard") WHERE "shard" > 0;
-- 0010_job_lists
CREATE INDEX "notifications_job_failed_at" ON "notifications_job" ("created_at", "id", "state") WHERE "state" = 'failed';
CREATE INDEX "notifications_job_cancelled_at" ON "notifications_job" ("created_at", "id", "state") WHERE "state" = 'cancelled';
CREATE INDEX "notifications_job_list" ON "notifications_job" ("created_at", "id");
-- 0011_broadcasts
CREATE TABLE "notifications_broadcast" ("id" char(32) NOT NULL PRIMARY KEY, "sender_id" integer NULL, "level" varchar(10) NOT NULL, "category" varchar(100) NOT NULL, "title" varchar(200) NOT NULL, "body" text NOT NULL, "url" varchar(1000) NOT NULL, "audience_kind" varchar(20) NOT NULL, "audience_values" text NOT NULL, "audience_text" varchar(500) NOT NULL, "recipients" bigint unsigned NOT NULL CHECK ("recipients" >= 0), "state" varchar(20) NOT NULL, "position" text NOT NULL, "sent" bigint unsigned NOT NULL CHECK ("sent" >= 0), "withdrawn" bigint unsigned NOT NULL CHECK ("withdrawn" >= 0), "job" char(32) NULL, "withdrawal_job" char(32) NULL, "created_at" datetime NOT NULL, "sent_at" datetime NULL, "withdrawn_at" datetime NULL);
ALTER TABLE "notifications_notification" ADD COLUMN "broadcast" char(32) NULL;
CREATE INDEX "notifications_n_broadcast" ON "notifications_notification" ("broadcast", "id", "read_at") WHERE "broadcast" IS NOT NULL;
-- 0012_stream_seen
ALTER TABLE "notifications_stream" ADD COLUMN "seen" bigint DEFAULT '0' NOT NULL;
ALTER TABLE "notifications_stream" ADD COLUMN "unseen" bigint DEFAULT '0' NOT NULL;
-- 0013_jobs_of_user
DROP INDEX IF EXISTS "notifications_job_user";
CREATE INDEX "notifications_job_user" ON "notifications_job" ("user_id", "created_at", "id");
-- 0014_pending_marks
CREATE TABLE "notifications_pendingmark" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "verb" varchar(10) NOT NULL, "moment" datetime NOT NULL, "category" varchar(100) NULL, "level" varchar(10) NOT NULL, "after" bigint NOT NULL, "up_to" bigint NOT NULL, "user_id" integer NOT NULL);
CREATE INDEX "notifications_pendingmark_user" ON "notifications_pendingmark" ("user_id");
-- 0015_muted_categories
CREATE TABLE "notifications_mutedcategory" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "category" varchar(100) NOT NULL, "created_at" datetime NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_mutedcategory_key" UNIQUE ("user_id", "category"));
-- 0016_field_labels
-- 0017_announced_states
CREATE TABLE "notifications_announcedstate" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "topic" varchar(200) NOT NULL, "state" varchar(20) NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_announcedstate_key" UNIQUE ("topic", "user_id"));
CREATE INDEX "notifications_announcedstate_user_id_ad0d0a18" ON "notifications_announcedstate" ("user_id");
ALTER TABLE "notifications_alert" ADD COLUMN "facts" text DEFAULT '{}' NOT NULL;
ALTER TABLE "notifications_schedule" ADD COLUMN "problem_facts" text DEFAULT '{}' NOT NULL;
-- 0018_worker_brokers
ALTER TABLE "notifications_worker" ADD COLUMN "broker" varchar(64) DEFAULT '' NOT NULL;
-- 0019_isolated_lane
-- 0020_duties
CREATE TABLE "notifications_dutyrun" ("name" varchar(100) NOT NULL PRIMARY KEY, "last_run_at" datetime NOT NULL);
ALTER TABLE "notifications_alertstate" ADD COLUMN "no_worker_since" datetime NULL;
-- 0021_separate_columns
ALTER TABLE "notifications_job" ADD COLUMN "fail_if_unknown_after" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "check_at" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "missing_since" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "expires_at" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "open_until" datetime NULL;
ALTER TABLE "notifications_job" ADD COLUMN "broker" varchar(64) NULL;
CREATE INDEX "notifications_job_check" ON "notifications_job" ("check_at", "id") WHERE ("lane" = 'observed' AND "state" = 'queued');
-- 0022_deliveries
CREATE TABLE "notifications_delivery" ("id" char(32) NOT NULL PRIMARY KEY, "notification" char(32) NOT NULL, "channel" varchar(10) NOT NULL, "address" varchar(320) NOT NULL, "language" varchar(35) NOT NULL, "state" varchar(10) NOT NULL, "reason" varchar(20) NOT NULL, "error" varchar(500) NOT NULL, "job" char(32) NULL, "due_at" datetime NOT NULL, "ended_at" datetime NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_delivery_key" UNIQUE ("notification", "channel", "address"));
CREATE INDEX "notifications_delivery_due" ON "notifications_delivery" ("due_at", "id") WHERE "state" = 'pending';
CREATE INDEX "notifications_delivery_job" ON "notifications_delivery" ("job") WHERE "state" = 'queued';
CREATE INDEX "notifications_delivery_user" ON "notifications_delivery" ("user_id");
-- 0023_preferences
CREATE TABLE "notifications_preference" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "user_id" integer NOT NULL, "category" varchar(100) NOT NULL, "channel" varchar(10) NOT NULL, "choice" varchar(10) NOT NULL, "changed_at" datetime NOT NULL, CONSTRAINT "notifications_preference_key" UNIQUE ("user_id", "category", "channel"));
CREATE TABLE "notifications_reader" ("user_id" integer NOT NULL PRIMARY KEY, "paused_until" datetime NULL, "time_zone" varchar(64) NOT NULL, "digest_hour" smallint unsigned NOT NULL CHECK ("digest_hour" >= 0), "digest_day" smallint unsigned NOT NULL CHECK ("digest_day" >= 0), "dead_address" varchar(320) NOT NULL, "dead_error" varchar(500) NOT NULL);
CREATE TABLE "notifications_digest" ("id" char(32) NOT NULL PRIMARY KEY, "user_id" integer NOT NULL, "due_at" datetime NOT NULL, "job" char(32) NOT NULL, "is_closed" bool NOT NULL, CONSTRAINT "notifications_digest_key" UNIQUE ("user_id", "due_at"));
CREATE INDEX "notifications_digest_due" ON "notifications_digest" ("due_at");
INSERT INTO notifications_preference (user_id, category, channel, choice, changed_at) SELECT user_id, category, 'bell', 'off', created_at FROM notifications_mutedcategory WHERE true ON CONFLICT DO NOTHING;
INSERT INTO notifications_preference (user_id, category, channel, choice, changed_at) SELECT user_id, category, 'email', 'off', created_at FROM notifications_mutedcategory WHERE true ON CONFLICT DO NOTHING;
UPDATE notifications_delivery SET reason = 'off' WHERE reason = 'muted';
-- 0024_webhooks
CREATE TABLE "notifications_webhookattempt" ("id" char(32) NOT NULL PRIMARY KEY, "endpoint" char(32) NOT NULL, "job" char(32) NOT NULL, "event" varchar(40) NOT NULL, "started_at" datetime NOT NULL, "milliseconds" integer unsigned NOT NULL CHECK ("milliseconds" >= 0), "status" smallint unsigned NULL CHECK ("status" >= 0), "error" varchar(40) NOT NULL);
CREATE INDEX "notifications_webhook_log" ON "notifications_webhookattempt" ("endpoint", "started_at");
CREATE INDEX "notifications_webhook_old" ON "notifications_webhookattempt" ("started_at");
CREATE TABLE "notifications_webhookendpoint" ("id" char(32) NOT NULL PRIMARY KEY, "url" varchar(1000) NOT NULL, "description" varchar(200) NOT NULL, "events" varchar(200) NOT NULL, "secret" varchar(100) NOT NULL, "previous_secret" varchar(100) NOT NULL, "previous_until" datetime NULL, "off_at" datetime NULL, "off_reason" varchar(10) NOT NULL, "failing_since" datetime NULL, "created_at" datetime NOT NULL, "user_id" integer NULL);
CREATE INDEX "notifications_webhook_on" ON "notifications_webhookendpoint" ("user_id") WHERE "off_at" IS NULL;
CREATE INDEX "notifications_webhook_user" ON "notifications_webhookendpoint" ("user_id");
-- 0025_push_subscriptions
CREATE TABLE "notifications_pushsubscription" ("id" char(32) NOT NULL PRIMARY KEY, "endpoint" varchar(1000) NOT NULL, "p256dh" varchar(100) NOT NULL, "auth" varchar(30) NOT NULL, "name" varchar(100) NOT NULL, "language" varchar(35) NOT NULL, "created_at" datetime NOT NULL, "used_at" datetime NULL, "seen_at" datetime NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_pushsub_endpoint" UNIQUE ("endpoint"));
CREATE INDEX "notifications_pushsub_user" ON "notifications_pushsubscription" ("user_id", "id");
-- 0026_steps
CREATE TABLE "notifications_step" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "job" char(32) NOT NULL, "name" varchar(200) NOT NULL, "result" text NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "started_at" datetime NOT NULL, "ended_at" datetime NOT NULL, CONSTRAINT "notifications_step_name" UNIQUE ("job", "name"));
-- 0027_delivery_attempts
ALTER TABLE "notifications_delivery" ADD COLUMN "attempted_at" datetime NULL;
-- 0028_choices_before_mutes
ALTER TABLE "notifications_preference" ADD COLUMN "before_mute" varchar(10) DEFAULT '' NOT NULL;
-- 0029_seen_marks
CREATE TABLE "notifications_seenmark" ("id" char(32) NOT NULL PRIMARY KEY, "up_to" bigint NOT NULL, "at" datetime NOT NULL, "browser" varchar(100) NOT NULL, "user_id" integer NOT NULL);
CREATE INDEX "notifications_seenmark_user" ON "notifications_seenmark" ("user_id", "up_to");
CREATE INDEX "notifications_seenmark_old" ON "notifications_seenmark" ("at");
-- 0030_job_callbacks
CREATE TABLE "notifications_jobcallback" ("job" char(32) NOT NULL PRIMARY KEY, "url" varchar(1000) NOT NULL);
-- 0031_waits
CREATE TABLE "notifications_wait" ("id" char(32) NOT NULL PRIMARY KEY, "job" char(32) NOT NULL, "name" varchar(200) NOT NULL, "kind" varchar(10) NOT NULL, "is_awaited" bool NOT NULL, "title" varchar(200) NOT NULL, "details" text NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "created_at" datetime NOT NULL, "due_at" datetime NULL, "ended_at" datetime NULL, "how" varchar(12) NOT NULL, "value" text NULL, "ended_by_id" integer NULL, "ended_with" varchar(100) NOT NULL, CONSTRAINT "notifications_wait_name" UNIQUE ("job", "name"));
CREATE INDEX "notifications_wait_due" ON "notifications_wait" ("due_at") WHERE "ended_at" IS NULL;
ALTER TABLE "notifications_job" ADD COLUMN "waiting" text NULL;
CREATE INDEX "notifications_job_waiting" ON "notifications_job" ("id") WHERE "state" = 'waiting';
-- 2/0001_streams
CREATE TABLE "notifications_alertstate" ("id" smallint NOT NULL PRIMARY KEY, "evaluated_at" datetime NOT NULL, "worker_seen_at" datetime NOT NULL, "no_worker_since" datetime NULL, "lease_lost_at" datetime NULL, "lost_worker" varchar(511) NOT NULL);
CREATE TABLE "notifications_dutyrun" ("name" varchar(100) NOT NULL PRIMARY KEY, "last_run_at" datetime NOT NULL);
CREATE TABLE "notifications_epoch" ("id" smallint NOT NULL PRIMARY KEY, "value" char(32) NOT NULL);
CREATE TABLE "notifications_queue" ("name" varchar(100) NOT NULL PRIMARY KEY, "paused_at" datetime NULL);
CREATE TABLE "notifications_reader" ("user_id" integer NOT NULL PRIMARY KEY, "paused_until" datetime NULL, "time_zone" varchar(64) NOT NULL, "digest_hour" smallint unsigned NOT NULL CHECK ("digest_hour" >= 0), "digest_day" smallint unsigned NOT NULL CHECK ("digest_day" >= 0), "dead_address" varchar(320) NOT NULL, "dead_error" varchar(500) NOT NULL);
CREATE TABLE "notifications_schedule" ("name" varchar(100) NOT NULL PRIMARY KEY, "timing" varchar(300) NOT NULL, "task_path" varchar(500) NOT NULL, "created_at" datetime NOT NULL, "paused_at" datetime NULL, "next_tick" datetime NULL, "last_tick" datetime NULL, "problem" varchar(10) NOT NULL, "problem_since" datetime NULL, "problem_job" char(32) NULL, "problem_facts" text DEFAULT '{}' NOT NULL, "announcement" varchar(10) NOT NULL, "announcement_text" varchar(500) NOT NULL);
CREATE TABLE "notifications_serverprocess" ("id" char(32) NOT NULL PRIMARY KEY, "host" varchar(255) NOT NULL, "pid" bigint unsigned NOT NULL CHECK ("pid" >= 0), "started_at" datetime NOT NULL, "lease_until" datetime NOT NULL, "sockets" integer unsigned NOT NULL CHECK ("sockets" >= 0), "users" integer unsigned NOT NULL CHECK ("users" >= 0));
CREATE TABLE "notifications_stream" ("user_id" integer NOT NULL PRIMARY KEY, "head" bigint NOT NULL, "floor" bigint NOT NULL, "unread" bigint NOT NULL, "seen" bigint DEFAULT 0 NOT NULL, "unseen" bigint DEFAULT 0 NOT NULL, "guard" bigint NOT NULL);
CREATE TABLE "notifications_worker" ("id" char(32) NOT NULL PRIMARY KEY, "host" varchar(255) NOT NULL, "process" varchar(255) NOT NULL, "started_at" datetime NOT NULL, "lease_until" datetime NOT NULL, "queues" varchar(1000) NOT NULL, "concurrency" integer unsigned NOT NULL CHECK ("concurrency" >= 0), "broker" varchar(64) DEFAULT '' NOT NULL, "load" integer unsigned NOT NULL CHECK ("load" >= 0), "outbound" text NOT NULL);
CREATE TABLE "notifications_alert" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "kind" varchar(20) NOT NULL, "subject" varchar(200) NOT NULL, "detail" varchar(500) NOT NULL, "facts" text DEFAULT '{}' NOT NULL, "opened_at" datetime NOT NULL, "seen_at" datetime NOT NULL, "closed_at" datetime NULL);
CREATE TABLE "notifications_broadcast" ("id" char(32) NOT NULL PRIMARY KEY, "level" varchar(10) NOT NULL, "category" varchar(100) NOT NULL, "title" varchar(200) NOT NULL, "body" text NOT NULL, "url" varchar(1000) NOT NULL, "audience_kind" varchar(20) NOT NULL, "audience_values" text NOT NULL, "audience_text" varchar(500) NOT NULL, "recipients" bigint unsigned NOT NULL CHECK ("recipients" >= 0), "state" varchar(20) NOT NULL, "position" text NOT NULL, "sent" bigint unsigned NOT NULL CHECK ("sent" >= 0), "withdrawn" bigint unsigned NOT NULL CHECK ("withdrawn" >= 0), "job" char(32) NULL, "withdrawal_job" char(32) NULL, "created_at" datetime NOT NULL, "sent_at" datetime NULL, "withdrawn_at" datetime NULL, "sender_id" integer NULL);
CREATE TABLE "notifications_job" ("id" char(32) NOT NULL PRIMARY KEY, "seq" bigint NULL, "version" bigint NOT NULL, "task_path" varchar(500) NOT NULL, "args" text NOT NULL, "kwargs" text NOT NULL, "backend" varchar(100) NOT NULL, "queue_name" varchar(100) NOT NULL, "lane" varchar(10) DEFAULT 'sync' NOT NULL, "hand_over_at" datetime NULL, "handed_over_at" datetime NULL, "handovers" integer unsigned DEFAULT 0 NOT NULL CHECK ("handovers" >= 0), "priority" smallint NOT NULL, "run_after" datetime NULL, "state" varchar(10) NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "max_attempts" integer unsigned NOT NULL CHECK ("max_attempts" >= 0), "worker" char(32) NULL, "fence" bigint NOT NULL, "deadline" datetime NULL, "fail_if_unknown_after" datetime NULL, "check_at" datetime NULL, "missing_since" datetime NULL, "expires_at" datetime NULL, "broker" varchar(64) NULL, "open_until" datetime NULL, "progress_current" bigint NULL, "progress_total" bigint NULL, "progress_message" varchar(200) NOT NULL, "result" text NULL, "error" text NULL, "title" varchar(200) NOT NULL, "url" varchar(1000) NOT NULL, "language" varchar(20) NOT NULL, "trace" varchar(800) NOT NULL, "idempotency_key" varchar(200) NOT NULL, "idempotency_hash" varchar(64) NOT NULL, "idempotency_expires_at" datetime NULL, "concurrency_key" varchar(200) NOT NULL, "batch" char(32) NULL, "schedule" varchar(100) DEFAULT '' NOT NULL, "cancel_requested_at" datetime NULL, "cancelled_by_other" bool NOT NULL, "created_at" datetime NOT NULL, "queued_at" datetime NOT NULL, "started_at" datetime NULL, "finished_at" datetime NULL, "user_id" integer NULL);
CREATE TABLE "notifications_attempt" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "number" integer unsigned NOT NULL CHECK ("number" >= 0), "worker" char(32) NULL, "started_at" datetime NULL, "ended_at" datetime NOT NULL, "outcome" varchar(10) NOT NULL, "exception_class_path" varchar(500) NOT NULL, "location" varchar(300) DEFAULT '' NOT NULL, "traceback" text NOT NULL, "job_id" char(32) NOT NULL);
CREATE TABLE "notifications_jobstatistics" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "period" smallint NOT NULL, "shard" bigint NOT NULL, "start" bigint NOT NULL, "queue_name" varchar(100) NOT NULL, "task_path" varchar(500) NOT NULL, "outcome" varchar(10) NOT NULL, "count" bigint NOT NULL, "enqueued" bigint NOT NULL, "wait_microseconds" bigint NOT NULL, "run_microseconds" bigint NOT NULL, "wait_0" bigint NULL, "wait_1" bigint NULL, "wait_2" bigint NULL, "wait_3" bigint NULL, "wait_4" bigint NULL, "wait_5" bigint NULL, "wait_6" bigint NULL, "wait_7" bigint NULL, "wait_8" bigint NULL, "wait_9" bigint NULL, "wait_10" bigint NULL, "wait_11" bigint NULL, "wait_12" bigint NULL, "wait_13" bigint NULL, "wait_14" bigint NULL, "wait_15" bigint NULL, "wait_16" bigint NULL, "wait_17" bigint NULL, "wait_18" bigint NULL, "wait_19" bigint NULL, "wait_20" bigint NULL, "wait_21" bigint NULL, "wait_22" bigint NULL, "wait_23" bigint NULL, "wait_24" bigint NULL, "wait_25" bigint NULL, "wait_26" bigint NULL, "wait_27" bigint NULL, "run_0" bigint NULL, "run_1" bigint NULL, "run_2" bigint NULL, "run_3" bigint NULL, "run_4" bigint NULL, "run_5" bigint NULL, "run_6" bigint NULL, "run_7" bigint NULL, "run_8" bigint NULL, "run_9" bigint NULL, "run_10" bigint NULL, "run_11" bigint NULL, "run_12" bigint NULL, "run_13" bigint NULL, "run_14" bigint NULL, "run_15" bigint NULL, "run_16" bigint NULL, "run_17" bigint NULL, "run_18" bigint NULL, "run_19" bigint NULL, "run_20" bigint NULL, "run_21" bigint NULL, "run_22" bigint NULL, "run_23" bigint NULL, "run_24" bigint NULL, "run_25" bigint NULL, "run_26" bigint NULL, "run_27" bigint NULL, CONSTRAINT "notifications_statistics_key" UNIQUE ("period", "shard", "start", "queue_name", "task_path", "outcome"));
CREATE TABLE "notifications_notification" ("id" char(32) NOT NULL PRIMARY KEY, "seq" bigint NULL, "raised" bigint NULL, "counted" bool NOT NULL, "level" varchar(10) NOT NULL, "category" varchar(100) NOT NULL, "title" varchar(200) NOT NULL, "body" text NOT NULL, "url" varchar(1000) NOT NULL, "job" char(32) NULL, "data" text NOT NULL, "key" varchar(200) NOT NULL, "broadcast" char(32) NULL, "created_at" datetime NOT NULL, "read_at" datetime NULL, "archived_at" datetime NULL, "user_id" integer NOT NULL);
CREATE TABLE "notifications_pendingmark" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "verb" varchar(10) NOT NULL, "moment" datetime NOT NULL, "category" varchar(100) NULL, "level" varchar(10) NOT NULL, "after" bigint NOT NULL, "up_to" bigint NOT NULL, "user_id" integer NOT NULL);
CREATE TABLE "notifications_preference" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "category" varchar(100) NOT NULL, "channel" varchar(10) NOT NULL, "choice" varchar(10) NOT NULL, "before_mute" varchar(10) DEFAULT '' NOT NULL, "changed_at" datetime NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_preference_key" UNIQUE ("user_id", "category", "channel"));
CREATE TABLE "notifications_pushsubscription" ("id" char(32) NOT NULL PRIMARY KEY, "endpoint" varchar(1000) NOT NULL, "p256dh" varchar(100) NOT NULL, "auth" varchar(30) NOT NULL, "name" varchar(100) NOT NULL, "language" varchar(35) NOT NULL, "created_at" datetime NOT NULL, "used_at" datetime NULL, "seen_at" datetime NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_pushsub_endpoint" UNIQUE ("endpoint"));
CREATE TABLE "notifications_ring" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "origin" bigint NULL, "user_id" integer NULL);
CREATE TABLE "notifications_step" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "job" char(32) NOT NULL, "name" varchar(200) NOT NULL, "result" text NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "started_at" datetime NOT NULL, "ended_at" datetime NOT NULL, CONSTRAINT "notifications_step_name" UNIQUE ("job", "name"));
CREATE TABLE "notifications_tick" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "due_at" datetime NOT NULL, "first_due_at" datetime NULL, "count" bigint unsigned NOT NULL CHECK ("count" >= 0), "outcome" varchar(10) NOT NULL, "detail" varchar(500) NOT NULL, "is_manual" bool NOT NULL, "job" char(32) NULL, "job_state" varchar(10) NOT NULL, "recorded_at" datetime NOT NULL, "schedule_id" varchar(100) NOT NULL, CONSTRAINT "notifications_tick_due" UNIQUE ("schedule_id", "due_at"));
CREATE TABLE "notifications_webhookattempt" ("id" char(32) NOT NULL PRIMARY KEY, "endpoint" char(32) NOT NULL, "job" char(32) NOT NULL, "event" varchar(40) NOT NULL, "started_at" datetime NOT NULL, "milliseconds" integer unsigned NOT NULL CHECK ("milliseconds" >= 0), "status" smallint unsigned NULL CHECK ("status" >= 0), "error" varchar(40) NOT NULL);
CREATE TABLE "notifications_webhookendpoint" ("id" char(32) NOT NULL PRIMARY KEY, "url" varchar(1000) NOT NULL, "description" varchar(200) NOT NULL, "events" varchar(200) NOT NULL, "secret" varchar(100) NOT NULL, "previous_secret" varchar(100) NOT NULL, "previous_until" datetime NULL, "off_at" datetime NULL, "off_reason" varchar(10) NOT NULL, "failing_since" datetime NULL, "created_at" datetime NOT NULL, "user_id" integer NULL);
CREATE TABLE "notifications_announcedstate" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "topic" varchar(200) NOT NULL, "state" varchar(20) NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_announcedstate_key" UNIQUE ("topic", "user_id"));
CREATE TABLE "notifications_delivery" ("id" char(32) NOT NULL PRIMARY KEY, "notification" char(32) NOT NULL, "channel" varchar(10) NOT NULL, "address" varchar(320) NOT NULL, "language" varchar(35) NOT NULL, "state" varchar(10) NOT NULL, "reason" varchar(20) NOT NULL, "error" varchar(500) NOT NULL, "job" char(32) NULL, "due_at" datetime NOT NULL, "attempted_at" datetime NULL, "ended_at" datetime NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_delivery_key" UNIQUE ("notification", "channel", "address"));
CREATE TABLE "notifications_digest" ("id" char(32) NOT NULL PRIMARY KEY, "due_at" datetime NOT NULL, "job" char(32) NOT NULL, "is_closed" bool NOT NULL, "user_id" integer NOT NULL, CONSTRAINT "notifications_digest_key" UNIQUE ("user_id", "due_at"));
CREATE TABLE "notifications_seenmark" ("id" char(32) NOT NULL PRIMARY KEY, "up_to" bigint NOT NULL, "at" datetime NOT NULL, "browser" varchar(100) NOT NULL, "user_id" integer NOT NULL);
CREATE UNIQUE INDEX "notifications_alert_open" ON "notifications_alert" ("kind", "subject") WHERE "closed_at" IS NULL;
CREATE UNIQUE INDEX "notifications_job_key" ON "notifications_job" ("user_id", "idempotency_key") WHERE ("user_id" IS NOT NULL AND NOT ("idempotency_key" = ''));
CREATE UNIQUE INDEX "notifications_job_key_nobody" ON "notifications_job" ("idempotency_key") WHERE ("user_id" IS NULL AND NOT ("idempotency_key" = ''));
CREATE INDEX "notifications_job_seq" ON "notifications_job" ("user_id", "seq");
CREATE INDEX "notifications_job_user" ON "notifications_job" ("user_id", "created_at", "id");
CREATE INDEX "notifications_job_unnumbered" ON "notifications_job" ("user_id", "id") WHERE "seq" IS NULL;
CREATE INDEX "notifications_job_active" ON "notifications_job" ("user_id", "queued_at") WHERE ("seq" = 0 AND "user_id" IS NOT NULL);
CREATE INDEX "notifications_job_ready" ON "notifications_job" ("lane", "priority" DESC, "id") WHERE ("run_after" IS NULL AND "state" = 'queued');
CREATE INDEX "notifications_job_delayed" ON "notifications_job" ("run_after", "id") WHERE ("run_after" IS NOT NULL AND "state" = 'queued');
CREATE INDEX "notifications_job_queued" ON "notifications_job" ("queue_name", "lane", "run_after", "priority" DESC, "id") WHERE "state" LIKE 'queued%' ESCAPE '\';
CREATE INDEX "notifications_job_keyed" ON "notifications_job" ("queue_name", "lane", "concurrency_key", "run_after", "priority" DESC, "id") WHERE "state" LIKE '%queued' ESCAPE '\';
CREATE INDEX "notifications_job_running" ON "notifications_job" ("worker", "id") WHERE "state" = 'running';
CREATE INDEX "notifications_job_handed" ON "notifications_job" ("hand_over_at", "id") WHERE ("lane" = 'handed' AND "state" = 'queued');
CREATE INDEX "notifications_job_check" ON "notifications_job" ("check_at", "id") WHERE ("lane" = 'observed' AND "state" = 'queued');
CREATE INDEX "notifications_job_observed" ON "notifications_job" ("deadline", "id") WHERE ("lane" = 'observed' AND "state" = 'queued');
CREATE INDEX "notifications_job_finished" ON "notifications_job" ("finished_at") WHERE "finished_at" IS NOT NULL;
CREATE INDEX "notifications_job_failed" ON "notifications_job" ("finished_at") WHERE "state" = 'failed';
CREATE INDEX "notifications_job_batch" ON "notifications_job" ("batch", "state") WHERE "batch" IS NOT NULL;
CREATE INDEX "notifications_job_failed_at" ON "notifications_job" ("created_at", "id", "state") WHERE "state" = 'failed';
CREATE INDEX "notifications_job_cancelled_at" ON "notifications_job" ("created_at", "id", "state") WHERE "state" = 'cancelled';
CREATE INDEX "notifications_job_list" ON "notifications_job" ("created_at", "id");
CREATE INDEX "notifications_attempt_job_id_46dd425c" ON "notifications_attempt" ("job_id");
CREATE INDEX "notifications_statistics_new" ON "notifications_jobstatistics" ("shard") WHERE "shard" > 0;
CREATE INDEX "notifications_n_seq" ON "notifications_notification" ("user_id", "seq");
CREATE INDEX "notifications_n_unnumbered" ON "notifications_notification" ("user_id", "id") WHERE "seq" IS NULL;
CREATE INDEX "notifications_n_open_key" ON "notifications_notification" ((COALESCE("user_id", "user_id")), "key") WHERE (COALESCE("read_at", "archived_at") IS NULL AND NOT ("key" = ''));
CREATE INDEX "notifications_n_archived" ON "notifications_notification" ("archived_at") WHERE "archived_at" IS NOT NULL;
CREATE INDEX "notifications_n_broadcast" ON "notifications_notification" ("broadcast", "id", "read_at") WHERE "broadcast" IS NOT NULL;
CREATE INDEX "notifications_n_inbox_unread" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NULL AND "read_at" IS NULL);
CREATE INDEX "notifications_n_inbox_read" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NULL AND "read_at" IS NOT NULL);
CREATE INDEX "notifications_n_arch_unread" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NOT NULL AND "read_at" IS NULL);
CREATE INDEX "notifications_n_arch_read" ON "notifications_notification" ("user_id", "raised") WHERE ("archived_at" IS NOT NULL AND "read_at" IS NOT NULL);
CREATE INDEX "notifications_pendingmark_user" ON "notifications_pendingmark" ("user_id");
CREATE INDEX "notifications_pushsub_user" ON "notifications_pushsubscription" ("user_id", "id");
CREATE INDEX "notifications_tick_open" ON "notifications_tick" ("schedule_id", "id") WHERE ("job_state" = '' AND "outcome" = 'enqueued');
CREATE INDEX "notifications_tick_recorded" ON "notifications_tick" ("recorded_at");
CREATE INDEX "notifications_webhook_log" ON "notifications_webhookattempt" ("endpoint", "started_at");
CREATE INDEX "notifications_webhook_old" ON "notifications_webhookattempt" ("started_at");
CREATE INDEX "notifications_webhook_on" ON "notifications_webhookendpoint" ("user_id") WHERE "off_at" IS NULL;
CREATE INDEX "notifications_webhook_user" ON "notifications_webhookendpoint" ("user_id");
CREATE INDEX "notifications_announcedstate_user_id_ad0d0a18" ON "notifications_announcedstate" ("user_id");
CREATE INDEX "notifications_delivery_due" ON "notifications_delivery" ("due_at", "id") WHERE "state" = 'pending';
CREATE INDEX "notifications_delivery_job" ON "notifications_delivery" ("job") WHERE "state" = 'queued';
CREATE INDEX "notifications_delivery_user" ON "notifications_delivery" ("user_id");
CREATE INDEX "notifications_digest_due" ON "notifications_digest" ("due_at");
CREATE INDEX "notifications_seenmark_user" ON "notifications_seenmark" ("user_id", "up_to");
CREATE INDEX "notifications_seenmark_old" ON "notifications_seenmark" ("at");
-- 2/0002_former_databases
-- 2/0003_job_callbacks
CREATE TABLE "notifications_jobcallback" ("job" char(32) NOT NULL PRIMARY KEY, "url" varchar(1000) NOT NULL);
-- 2/0004_waits
CREATE TABLE "notifications_wait" ("id" char(32) NOT NULL PRIMARY KEY, "job" char(32) NOT NULL, "name" varchar(200) NOT NULL, "kind" varchar(10) NOT NULL, "is_awaited" bool NOT NULL, "title" varchar(200) NOT NULL, "details" text NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "created_at" datetime NOT NULL, "due_at" datetime NULL, "ended_at" datetime NULL, "how" varchar(12) NOT NULL, "value" text NULL, "ended_by_id" integer NULL, "ended_with" varchar(100) NOT NULL, CONSTRAINT "notifications_wait_name" UNIQUE ("job", "name"));
CREATE INDEX "notifications_wait_due" ON "notifications_wait" ("due_at") WHERE "ended_at" IS NULL;
ALTER TABLE "notifications_job" ADD COLUMN "waiting" text NULL;
CREATE INDEX "notifications_job_waiting" ON "notifications_job" ("id") WHERE "state" = 'waiting';
-- 2/0005_former_columns
DROP INDEX IF EXISTS "notifications_job_observed";
-- 2/0006_answer_question
-- 2/0007_open_question
ALTER TABLE "notifications_notification" ADD COLUMN "open_question" char(32) NULL;
-- 2/0008_output
CREATE TABLE "notifications_outputchunk" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "job" char(32) NOT NULL, "start" bigint NOT NULL, "text" text NOT NULL, "attempt" integer unsigned NOT NULL CHECK ("attempt" >= 0), "fence" bigint NOT NULL, "created_at" datetime NOT NULL, CONSTRAINT "notifications_output_start" UNIQUE ("job", "start"));
-- 2/0009_event_source
ALTER TABLE "notifications_job" ADD COLUMN "event_source" char(32) NULL;
CREATE INDEX "notifications_job_event" ON "notifications_job" ("event_source", "id") WHERE "event_source" IS NOT NULL;
CREATE INDEX "notifications_webhook_job" ON "notifications_webhookattempt" ("job");
-- 2/0010_question_reminders
ALTER TABLE "notifications_wait" ADD COLUMN "remind_at" datetime NULL;
CREATE INDEX "notifications_wait_remind" ON "notifications_wait" ("remind_at") WHERE ("ended_at" IS NULL AND "remind_at" IS NOT NULL);
-- 2/0011_open_questions
CREATE INDEX "notifications_wait_question" ON "notifications_wait" ("created_at") WHERE ("ended_at" IS NULL AND "kind" = 'question');
-- 2/0012_receipts
ALTER TABLE "notifications_seenmark" ADD COLUMN "receipts" text NULL;
-- 2/0013_questions_index
CREATE INDEX "notifications_n_question" ON "notifications_notification" ("user_id", "raised") WHERE "open_question" IS NOT NULL;
-- 2/0014_requests_to_workers
ALTER TABLE "notifications_alert" ADD COLUMN "acknowledged_at" datetime NULL;
ALTER TABLE "notifications_alert" ADD COLUMN "acknowledged_by" varchar(150) DEFAULT '' NOT NULL;
ALTER TABLE "notifications_worker" ADD COLUMN "request" varchar(10) DEFAULT '' NOT NULL;
-- 2/0015_held_keys
ALTER TABLE "notifications_job" ADD COLUMN "held_key_limit" integer NULL;
CREATE INDEX "notifications_job_holding" ON "notifications_job" ("concurrency_key", "held_key_limit") WHERE ("held_key_limit" IS NOT NULL AND "state" IN ('queued', 'waiting'));
CREATE INDEX "notifications_job_resumed" ON "notifications_job" ("queue_name", "lane", "run_after", "priority" DESC, "id") WHERE ("held_key_limit" IS NOT NULL AND "state" LIKE '%queued%' ESCAPE '\');
-- 2/0016_broadcast_times
ALTER TABLE "notifications_broadcast" ADD COLUMN "send_at" datetime NULL;
ALTER TABLE "notifications_broadcast" ADD COLUMN "translations" text DEFAULT '{}' NOT NULL;
-- 2/0017_groups
ALTER TABLE "notifications_notification" ADD COLUMN "group_key" varchar(102) NULL;
ALTER TABLE "notifications_pendingmark" ADD COLUMN "group" varchar(102) NULL;
CREATE INDEX "notifications_n_group_unread" ON "notifications_notification" ("user_id", "group_key", "raised") WHERE ("archived_at" IS NULL AND "group_key" IS NOT NULL AND "read_at" IS NULL);
CREATE INDEX "notifications_n_group_read" ON "notifications_notification" ("user_id", "group_key", "raised") WHERE ("archived_at" IS NULL AND "group_key" IS NOT NULL AND "read_at" IS NOT NULL);
-- 2/0018_executor
-- 2/0019_snoozed
ALTER TABLE "notifications_notification" ADD COLUMN "snoozed_until" datetime NULL;
CREATE INDEX "notifications_n_snoozed" ON "notifications_notification" ("user_id", "raised") WHERE "snoozed_until" IS NOT NULL;
CREATE INDEX "notifications_n_due" ON "notifications_notification" ("snoozed_until") WHERE "snoozed_until" IS NOT NULL;
-- 2/0020_schedule_announcement
CREATE TABLE "new__notifications_schedule" ("announcement" varchar(10) DEFAULT '' NOT NULL, "name" varchar(100) NOT NULL PRIMARY KEY, "timing" varchar(300) NOT NULL, "task_path" varchar(500) NOT NULL, "created_at" datetime NOT NULL, "paused_at" datetime NULL, "next_tick" datetime NULL, "last_tick" datetime NULL, "problem" varchar(10) NOT NULL, "problem_since" datetime NULL, "problem_job" char(32) NULL, "problem_facts" text DEFAULT '{}' NOT NULL, "announcement_text" varchar(500) NOT NULL);
INSERT INTO "new__notifications_schedule" ("name", "timing", "task_path", "created_at", "paused_at", "next_tick", "last_tick", "problem", "problem_since", "problem_job", "problem_facts", "announcement_text", "announcement") SELECT "name", "timing", "task_path", "created_at", "paused_at", "next_tick", "last_tick", "problem", "problem_since", "problem_job", "problem_facts", "announcement_text", "announcement" FROM "notifications_schedule";
DROP TABLE "notifications_schedule";
ALTER TABLE "new__notifications_schedule" RENAME TO "notifications_schedule";
CREATE TABLE "new__notifications_schedule" ("name" varchar(100) NOT NULL PRIMARY KEY, "timing" varchar(300) NOT NULL, "task_path" varchar(500) NOT NULL, "created_at" datetime NOT NULL, "paused_at" datetime NULL, "next_tick" datetime NULL, "last_tick" datetime NULL, "problem" varchar(10) NOT NULL, "problem_since" datetime NULL, "problem_job" char(32) NULL, "problem_facts" text DEFAULT '{}' NOT NULL, "announcement" varchar(10) DEFAULT '' NOT NULL, "announcement_text" varchar(500) DEFAULT '' NOT NULL);
INSERT INTO "new__notifications_schedule" ("name", "timing", "task_path", "created_at", "paused_at", "next_tick", "last_tick", "problem", "problem_since", "problem_job", "problem_facts", "announcement", "announcement_text") SELECT "name", "timing", "task_path", "created_at", "paused_at", "next_tick", "last_tick", "problem", "problem_since", "problem_job", "problem_facts", "announcement", "announcement_text" FROM "notifications_schedule";
DROP TABLE "notifications_schedule";
ALTER TABLE "new__notifications_schedule" RENAME TO "notifications_schedule";
