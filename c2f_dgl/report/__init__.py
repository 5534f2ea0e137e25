"""A run, or several side by side, as one self-contained HTML page.

`collect_runs` reads run folders into plain dataclasses, `render_page` turns those into HTML.
"""

from c2f_dgl.report.collect import RunReport, collect_runs
from c2f_dgl.report.page import MAX_BYTES, MAX_RUNS, render_page

__all__ = ["MAX_BYTES", "MAX_RUNS", "RunReport", "collect_runs", "render_page"]
