"""A run, or several side by side, as one self-contained HTML page.

`collect_runs` reads run folders into plain dataclasses, `render_page` turns those into HTML.
"""

from c2f_dgl.report.collect import RunReport, collect_runs


__all__ = ["RunReport", "collect_runs"]
