"""The command that writes a run's model in a form that serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from c2f_dgl.cli.runs import DataOption, DeviceOption, JsonOption, RunArgument, StageOption
from c2f_dgl.files import check_new_folder
from c2f_dgl.progress import Reporter, plain_console

_SHOWN = {"ndcg@20": "N@20", "recall@20": "R@20"}

# What the files of an artifact are called in the table.
_PARTS = {
    "learned.safetensors": "learned part",
    "graph.safetensors": "graph",
    "ids.safetensors": "ids",
    "ids.json": "ids",
    "embeddings.safetensors": "embeddings",
    "manifest.json": "manifest",
}


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="New folder.", show_default=False)],
    format_: Annotated[str, typer.Option("--format", help="artifact, embeddings, onnx or faiss.")] = "artifact",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8, of what is learned and of embeddings.")] = "fp32",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Of an artifact: with propagated embeddings, to load at once.")
    ] = False,
    without_filter: Annotated[
        bool, typer.Option("--without-filter", help="Leave out the filter term, which only an artifact can hold.")
    ] = False,
    all_interactions: Annotated[
        bool,
        typer.Option(
            "--all-interactions", help="Of an artifact: held-out interactions too are seen, and propagated over."
        ),
    ] = False,
    stage: StageOption = None,
    data_: DataOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Write a run's model to serve from, and compare it with the run on the test part, else the validation part."""
    from c2f_dgl.checks import check_export, check_run

    check_run(run, stage=stage, source=data_, device=device)
    check_new_folder(out)
    check_export(format_, precision)
    reporter = Reporter(quiet=json_)
    with reporter.busy("loading the run"):
        from rich.table import Table

        from c2f_dgl import api, exports
        from c2f_dgl.evaluation.ranking import evaluate
        from c2f_dgl.training.checkpoint import model_tensors

        model, split = api.load_run(run, stage=stage, device=device, source=data_)
    with reporter.busy("ranking"):
        scorer = model.scorer()
        held_out, relevant = ("test", split.test) if split.test.nnz else ("valid", split.valid)
        before = evaluate(scorer, split.train, relevant)
    with reporter.busy(f"writing {out}"):
        written = exports.export(
            format_,
            model,
            split,
            out,
            precision=precision,
            embeddings=embeddings,
            without_filter=without_filter,
            all_interactions=all_interactions,
            metrics={held_out: before},
        )
    with reporter.busy("ranking with what was written"):
        after = evaluate(written, split.train, relevant)
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    in_run = {
        "learned part": sum(tensor.nbytes for tensor in model_tensors(model).values()),
        "embeddings": scorer.users.nbytes + scorer.items.nbytes,
    }
    if json_:
        result = {"format": format_, "precision": precision, "files": files, "before": before, "after": after}
        print(json.dumps(result))
        return
    table = Table("", title=f"{split.name}, {format_}, {precision}", title_justify="left")
    table.add_column("run", justify="right")
    table.add_column("exported", justify="right")
    for name, size in files.items():
        part = _PARTS.get(name, name)
        table.add_row(part, _bytes(in_run[part]) if part in in_run else "", _bytes(size))
    table.add_row("total", "", _bytes(sum(files.values())), end_section=True)
    for metric, title in _SHOWN.items():
        table.add_row(f"{held_out} {title}", f"{before[metric]:.4f}", f"{after[metric]:.4f}")
    lost = 1 - after["ndcg@20"] / before["ndcg@20"] if before["ndcg@20"] else 0.0
    table.add_row("N@20 lost", "", f"{100 * lost:.2f} %")
    plain_console().print(table)


def _bytes(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1e6:,.3f} MB"
