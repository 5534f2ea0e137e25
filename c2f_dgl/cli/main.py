"""The command line: ``c2f-dgl COMMAND``, one module for each group of commands.

Commands import what they need where they run: `--help` is quick, and `serve` works without torch and DGL.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from c2f_dgl.cli import bench, data, doctor, evaluate, export, recommend, runs, serve
from c2f_dgl.cli.common import say
from c2f_dgl.errors import InputError, printable

app = typer.Typer(
    help="Coarse-to-fine lightweight meta-embeddings for recommendation, on DGL heterographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.command("train", cls=runs.WithOptions)(runs.train)
app.command("tune")(bench.tune)
app.command("update")(runs.update)
app.command("evaluate")(evaluate.evaluate)
app.command("recommend")(recommend.recommend)
app.command("info")(runs.info)
app.command("export")(export.export)
app.command("push")(export.push)
app.command("pull")(export.pull)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("options")(runs.options)
app.command("report")(runs.report)
app.command("bench")(bench.bench)


class _Printed(logging.Handler):
    """Prints what is logged on standard error, above any bars there."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {self.format(record)}", stderr=True)


@app.callback()
def _configure(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[_Printed()])


def main() -> None:
    """Run the command line; input or a path that cannot be used ends it with one line and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except InputError as error:
        print(f"c2f-dgl: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Of a path that cannot even be looked at (a folder above may not be entered, a name is too long).
        if error.filename is None:
            raise
        print(f"c2f-dgl: {printable(os.fsdecode(error.filename))}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:  # the latter is torch's where it gets no memory
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        print("c2f-dgl: out of memory (expected more of it, or smaller data, batches or models)", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        context = getattr(error, "ctx", None)  # typer's errors of options have one, and no class that it exports
        if context is None:
            raise
        message = printable(" ".join(error.format_message().split()).replace("Value error, ", ""))  # type: ignore[attr-defined]
        if type(error).__name__ != "NoArgsIsHelpError":  # which has printed the help
            print(f"c2f-dgl: {message} (see {context.command_path} --help)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
