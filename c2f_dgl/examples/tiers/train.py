"""A third tier, ``finest`` below ``fine``: meta-embeddings that refine the fine ones."""

from pathlib import Path

from c2f_dgl.examples.compare import main, presets

HERE = Path(__file__).parent
prepare = presets(HERE / "two.yaml", HERE / "three.yaml")

if __name__ == "__main__":
    main(prepare, __doc__)
