"""The overview: queues, throughput, failures, workers, web processes, circuits and alerts on one page of the admin.

page        the page, and the fragment that it reloads
figures     all figures of the page, of one moment, with what waits and runs in each queue
processes   workers, what staff request of them, web processes, and the circuits of outbound calls
failures    failed jobs, grouped by task, exception and location
history     throughput and durations of the last hour, day or week; those of each task are a page of their own
operating   pauses of queues, requests to workers, acknowledged alerts, retries of groups of failures
charts      lines as SVG
"""
