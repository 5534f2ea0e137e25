"""``python -m c2f_dgl`` is the command line."""

from c2f_dgl.cli.main import main

main()
