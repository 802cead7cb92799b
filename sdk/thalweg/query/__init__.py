"""Reading: runs as a table, series and expressions over them, custom metrics. HTTP only; nothing here writes points.

import thalweg.query as q

table = q.runs("digits", filter="config.lr > 1e-3", columns=["config.lr", "last(`val/loss`)"], sort="-last(`val/loss`)")
curves = q.series("digits", runs=table, expressions="ema(`train/loss`, 0.9)").pandas()
"""

from thalweg.query.custom import check, custom_metrics, delete_metric, set_metric
from thalweg.query.reading import metrics, runs, series, stream
from thalweg.query.table import Table

__all__ = [
    "Table",
    "check",
    "custom_metrics",
    "delete_metric",
    "metrics",
    "runs",
    "series",
    "set_metric",
    "stream",
]
