"""The report: one page that shows what an evaluation found, with its figures also as PNG files."""

from lapel.report.content import Content, Hub, MapPoints, Picture, Query
from lapel.report.hubs import Occurrences, occurrences
from lapel.report.page import FIGURES, REPORT_FILE, write_report
from lapel.report.pictures import thumbnails
from lapel.report.projection import project

__all__ = [
    "FIGURES",
    "REPORT_FILE",
    "Content",
    "Hub",
    "MapPoints",
    "Occurrences",
    "Picture",
    "Query",
    "occurrences",
    "project",
    "thumbnails",
    "write_report",
]
