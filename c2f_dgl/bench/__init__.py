"""Systems side by side: the same data, budget, trainer and evaluation, each run in a process of its own."""

from c2f_dgl.bench.run import Bench, run_bench
from c2f_dgl.bench.table import Results, Row, collect, read_results

__all__ = ["Bench", "Results", "Row", "collect", "read_results", "run_bench"]
