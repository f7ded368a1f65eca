"""A folder in, a folder out: every picture restored once, whatever interrupts it."""

from perceive_ir.batch._batch import FORMATS, Batch, Entry, pictures
from perceive_ir.batch._journal import HIDDEN, Journal, Row
from perceive_ir.batch._report import report_path, report_stopped, write_report
from perceive_ir.batch._run import Event, Progress, overview, preview, run

__all__ = [
    "FORMATS",
    "HIDDEN",
    "Batch",
    "Entry",
    "Event",
    "Journal",
    "Progress",
    "Row",
    "overview",
    "pictures",
    "preview",
    "report_path",
    "report_stopped",
    "run",
    "write_report",
]
