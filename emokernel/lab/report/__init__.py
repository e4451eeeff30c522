"""The report of an evaluation: one HTML file, Markdown with pictures, and the figures as JSON.

Pictures of vectors, and of where a model's emotions lie, are drawn here too.
"""

from emokernel.lab.report.write import write_report

__all__ = ["write_report"]
