"""Listening counts, of ``train.tsv``, as weights of the interactions."""

from pathlib import Path

from c2f_dgl.examples.compare import main, presets

prepare = presets("fast", Path(__file__).with_name("counts.yaml"))

if __name__ == "__main__":
    main(prepare, __doc__)
