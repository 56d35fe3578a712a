"""What a researcher looks at: the picture of a training run, and a page about runs, `prvr report`."""

from prvr.report.curves import draw_curves

__all__ = ["draw_curves"]
