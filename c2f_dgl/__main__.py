"""``python -m c2f_dgl`` and ``c2f-dgl``: the command line, or one line about what it lacks."""

from __future__ import annotations

import sys

from c2f_dgl.extras import missing


def main() -> None:
    """Run the command line; a library that is not installed ends it with one line and exit code 2."""
    try:
        from c2f_dgl.cli.main import main as run

        run()
    except ModuleNotFoundError as error:
        if (told := missing(error.name or "")) is None:
            raise
        print(f"c2f-dgl: {told}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
