"""Worked examples, each a folder with a README, a script and what it needs; `python -m c2f_dgl.examples.NAME.train`."""
