"""A folder in, a folder out: every picture restored once, whatever interrupts it."""

from perceive_ir.batch._batch import FORMATS, Batch, Entry, pictures
from perceive_ir.batch._client import connect, workers_on
from perceive_ir.batch._journal import HIDDEN, Journal, Row
from perceive_ir.batch._outlook import overview, preview
from perceive_ir.batch._report import report_path, report_stopped, write_report
from perceive_ir.batch._run import Event, Progress, run

__all__ = [
    "FORMATS",
    "HIDDEN",
    "Batch",
    "Entry",
    "Event",
    "Journal",
    "Progress",
    "Row",
    "connect",
    "overview",
    "pictures",
    "preview",
    "report_path",
    "report_stopped",
    "run",
    "workers_on",
    "write_report",
]
