"""Full ranking and its metrics."""

from c2f_dgl.evaluation.metrics import ranking_metrics
from c2f_dgl.evaluation.ranking import CUTOFFS, Scorer, evaluate, evaluate_per_user, top_items

__all__ = ["CUTOFFS", "Scorer", "evaluate", "evaluate_per_user", "ranking_metrics", "top_items"]
