"""The overview: queues, throughput, failures, workers, web processes, circuits and alerts on one page of the admin.

page        the page, and the fragment that it reloads
retry       the retry of a group of failures
figures     all figures of the page, of one moment
queues      what waits and runs in each queue
processes   workers and web processes, and the circuits of outbound calls
failures    failed jobs, grouped by task, exception and location
history     throughput and durations of the last hour, day or week
task_figures  the figures of each task, on a page of their own
operating   pauses of queues, requests to workers, acknowledged alerts
charts      lines as SVG
changes     whether the figures may have changed, for requests that repeat
"""
