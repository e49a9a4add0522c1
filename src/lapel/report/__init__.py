"""The report: one page that shows what an evaluation found, with its figures also as PNG files."""

from lapel.report.content import (
    Content,
    Difference,
    Hub,
    Hubs,
    MapPoints,
    Missed,
    Picture,
    Queries,
    Query,
    Rival,
)
from lapel.report.hubs import Occurrences, occurrences
from lapel.report.page import FIGURES, REPORT_FILE, write_report
from lapel.report.pictures import thumbnails
from lapel.report.projection import project

__all__ = [
    "FIGURES",
    "REPORT_FILE",
    "Content",
    "Difference",
    "Hub",
    "Hubs",
    "MapPoints",
    "Missed",
    "Occurrences",
    "Picture",
    "Queries",
    "Query",
    "Rival",
    "occurrences",
    "project",
    "thumbnails",
    "write_report",
]
