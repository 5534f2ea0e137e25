"""Social links: who trusts whom, as the relation user-trusts-user, from ``trust.tsv``."""

from pathlib import Path

from c2f_dgl.examples.compare import main, presets

prepare = presets("fast", Path(__file__).with_name("social.yaml"))

if __name__ == "__main__":
    main(prepare, __doc__)
