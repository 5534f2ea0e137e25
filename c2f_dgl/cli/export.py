"""``c2f-dgl export, push, pull``: a run's model in a form that serves, and on a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from c2f_dgl.cli.common import DataOption, DeviceOption, JsonOption, ServedArgument, StageOption, print_table, say
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, write_text
from c2f_dgl.io.progress import Reporter

if TYPE_CHECKING:
    from c2f_dgl.serving import ServingModel

RepositoryArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository.", show_default=False)]

Format = Literal["model", "onnx", "faiss", "web"]
_SHOWN = {"ndcg@20": "N@20", "recall@20": "R@20"}


def export(
    run: ServedArgument,
    out: Annotated[Path, typer.Option(help="New file, e.g. model.c2f; of web a new folder.", show_default=False)],
    bytes_: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="SIZE",
            help="Most bytes of the file, titles apart, e.g. 1MB; by default the least that loses at most 2 % of N@20.",
        ),
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Write the users' histories, all that the data holds, to this new file.")
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="What is written; web is a page that works offline.")
    ] = "model",
    titles: Annotated[
        Path | None, typer.Option(help="A table of items' ids and titles, its first columns, for a model or page.")
    ] = None,
    cold: Annotated[
        Path | None,
        typer.Option(help="A table of items' ids and features: items that the data lacks are added, coded by these."),
    ] = None,
    stage: StageOption = None,
    data_: DataOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Write a run's model as codes of its items, with a card, and compare it with the run; or write a file anew."""
    from c2f_dgl.export.card import card_path, model_card
    from c2f_dgl.training.checks import check_run

    n_bytes = None if bytes_ is None else _n_bytes(bytes_)
    if titles is not None and format_ not in ("model", "web"):
        raise InputError(f"{format_} holds no titles", where="--titles", expected="--format model or web")
    for path, columns in ((titles, "titles"), (cold, "features")):
        if path is not None and not path.exists():
            raise InputError("no such file", where=path, expected=f"a table of ids and {columns}")
    if run.is_file():
        anew = format_ == "web" or (format_ == "model" and cold is not None)
        if not anew or any(option is not None for option in (bytes_, users, stage, data_)):
            raise InputError("is a model file already", where=run, expected="--format web, --cold, or a run")
        _check_new(out)
        _written_anew(run, out, format_, titles, cold, json_)
        return
    check_run(run, stage=stage, source=data_, device=device)
    card = card_path(out) if format_ == "model" else None
    _check_new(out, card, users)
    reporter = Reporter(quiet=json_)
    with reporter.busy("loading the run"):
        from c2f_dgl import api
        from c2f_dgl.data.catalogue import way_of_split
        from c2f_dgl.evaluation.ranking import evaluate
        from c2f_dgl.evaluation.served import Served
        from c2f_dgl.export import device_model, formats
        from c2f_dgl.export.teacher import teacher_of
        from c2f_dgl.training.folder import RunFolder

        model, split = api.load_run(run, stage=stage, device=device, source=data_)
        config = RunFolder(run).config()
    parts = {name: part for name, part in (("valid", split.valid), ("test", split.test)) if part.nnz}
    with reporter.busy("ranking"):
        scorer = model.scorer()
        before = {name: evaluate(scorer, split.train, part) for name, part in parts.items()}
    with reporter.busy("making codes of the items"):
        teacher = teacher_of(model, split)
        served = device_model.coded_model(teacher, split, n_bytes, seed=config.seed, reporter=reporter)
        served.details.update(device_model.details_of(config, split))
    with reporter.busy("ranking with the codes"):
        ranker = Served(served, split.train, split.item_ids)
        after = {name: evaluate(ranker, split.train, part) for name, part in parts.items()}
    served.details.update({name: {metric: after[name][metric] for metric in _SHOWN} for name in parts})
    served = _with_tables(served, titles, cold)
    write = {"onnx": formats.write_onnx, "faiss": formats.write_faiss, "web": formats.write_web}
    written = served.save(out) if format_ == "model" else write[format_](served, out)
    if card is not None:
        how = way_of_split(str(data_ or config.data.source), config.data.split)
        write_text(card, model_card(served, split, config, written, how=how, exact=teacher.exact))
    if users is not None:
        written["users"] = device_model.user_histories(served, split).save(users)
    if json_:
        result = {"format": format_, "bytes": written, "exact": teacher.exact, "before": before, "after": after}
        print(json.dumps(result))
        return
    if not teacher.exact:
        say("users of this model are more than their items: the nearest model of items is written", stderr=True)
    rows = {name: ["", f"{size:,} B"] for name, size in written.items()}
    for name in parts:
        for metric, title in _SHOWN.items():
            rows[f"{name} {title}"] = [f"{before[name][metric]:.4f}", f"{after[name][metric]:.4f}"]
    print_table(f"{split.name}, {format_}", ["", "run", "file"], rows)


def push(
    model: Annotated[Path, typer.Argument(help="Model file, with its card beside it.", show_default=False)],
    repository: RepositoryArgument,
) -> None:
    """Upload a model file, and its card as README.md, to Hugging Face's hub; a new repository is private."""
    from c2f_dgl.export import hub

    say(hub.push(model, repository))


def pull(
    repository: RepositoryArgument,
    out: Annotated[Path, typer.Option(help="New file, e.g. model.c2f.", show_default=False)],
) -> None:
    """Download the model file that `push` uploaded."""
    from c2f_dgl.export import hub

    _check_new(out)
    hub.pull(repository, out)
    say(f"{out}: {out.stat().st_size:,} B")


def _check_new(*paths: Path | None) -> None:
    """Refuse what is there already, or cannot be written."""
    for path in filter(None, paths):
        if path.exists():
            raise InputError("is there already", where=path, expected="a new file or folder")
        check_new_folder(path)


def _n_bytes(text: str) -> int:
    """A number of bytes, as ``1MB``, ``500 kB`` or ``64000``."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except ValidationError as error:
        expected = "e.g. 1MB, 500kB or 64000"
        raise InputError(f"{text!r} is no number of bytes", where="--bytes", expected=expected) from error


def _with_tables(model: ServingModel, titles: Path | None, cold: Path | None) -> ServingModel:
    """A model with the items of a table of features that it lacks, and titles of all."""
    if cold is not None:
        from c2f_dgl.export.cold import with_cold_items

        model = with_cold_items(model, cold)
    if titles is not None:
        from c2f_dgl.export.device_model import read_titles

        model.titles = read_titles(titles, model.items)
    return model


def _written_anew(path: Path, out: Path, form: str, titles: Path | None, cold: Path | None, json_: bool) -> None:
    """Write a model file as a page, or with further items."""
    from c2f_dgl.export.formats import write_web
    from c2f_dgl.serving import ServingModel

    model = _with_tables(ServingModel.load(path), titles, cold)
    written = write_web(model, out) if form == "web" else model.save(out)
    if json_:
        print(json.dumps({"format": form, "bytes": written}))
        return
    for name, size in written.items():
        say(f"{out / name if form == 'web' else name}: {size:,} B")
