"""The report of an evaluation: one HTML file, Markdown with pictures, and the figures as JSON."""

from emokernel.lab.report.write import write_report

__all__ = ["write_report"]
