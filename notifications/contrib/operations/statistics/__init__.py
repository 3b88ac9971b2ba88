"""Statistics of jobs that outlast the jobs: counts, and histograms of waiting and running times.

Pages, metrics and alerts read them by these functions, each of which is one query:

    from notifications.contrib.operations.statistics import read_figures, read_points, read_totals

    for figures in read_figures(timedelta(hours=1)):       # one for each queue; by_task=True: for each task in it
        figures.ended_per_minute, figures.failure_rate, figures.wait.percentile(0.95), figures.lost
    read_points(timedelta(days=7), 84, queue="default")    # figures of 84 steps of two hours, for a chart
    read_totals()                                          # by queue, task and outcome; numbers that never fall

recording        counts each end in the transaction that records it
roll_up          merges rows into minutes (kept 30 days), hours (90 days), days (2 years) and all time
reading, points  read figures and totals, and the points of charts

The model is ``JobStatistics``.
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.contrib.operations.statistics.points import read_points as read_points
    from notifications.contrib.operations.statistics.reading import Figures as Figures
    from notifications.contrib.operations.statistics.reading import Histogram as Histogram
    from notifications.contrib.operations.statistics.reading import Sums as Sums
    from notifications.contrib.operations.statistics.reading import read_figures as read_figures
    from notifications.contrib.operations.statistics.reading import read_totals as read_totals
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.contrib.operations.statistics.points": "read_points",
            "notifications.contrib.operations.statistics.reading": (
                "Figures Histogram Sums read_figures read_totals"
            ),
        },
    )
