"""Checkpoints: safetensors files whose header carries their JSON. Whole or not there, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from c2f_dgl.errors import InputError
from c2f_dgl.io.files import replacing
from c2f_dgl.model import Recommender, Scalars
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.tiered import Tier
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.folder import TRAINED_AGAIN

FORMAT = 2

_SCALARS, _CHOICE = TypeAdapter(Scalars), TypeAdapter(Choice)


def model_tensors(model: Recommender) -> dict[str, Tensor]:
    """Copies of what was learned: codebooks, assignments (int32 indices, weights), biases, or the full table.

    And W of a codebook E = W T, which is not learned but takes a propagation to find again.
    """
    tensors: dict[str, Tensor] = {}
    for tier in model.embedding.tiers:
        tensors[f"{tier.name}.codebook"] = tier.codebook
        tensors[f"{tier.name}.indices"] = tier.indices.int()
        tensors[f"{tier.name}.weights"] = tier.weights
        if tier.whitening is not None:
            tensors[f"{tier.name}.whitening"] = tier.whitening
    if model.embedding.table is not None:
        tensors["table"] = model.embedding.table
    tensors.update(_vectors(model))
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _vectors(model: Recommender) -> dict[str, torch.nn.Parameter]:
    """Learned values outside of the embedding, by their names in a checkpoint."""
    importance = None if model.importance is None else model.importance.log_factor
    vectors = {"bias": model.readout.bias, "importance": importance}
    return {name: vector for name, vector in vectors.items() if vector is not None}


def model_description(model: Recommender) -> dict[str, Any]:
    """What the tensors need to become a model again."""
    return {
        "tiers": [{"name": t.name, "threshold": t.threshold, "gate": t.gate} for t in model.embedding.tiers],
        **asdict(model.scalars()),
        "parameters": model.count_values(),
    }


def described_scalars(description: dict[str, Any]) -> Scalars:
    """The scalars of a `model_description`, as read from JSON or not."""
    return _SCALARS.validate_python(description)


def flat_scalars(model: Recommender) -> dict[str, Any]:
    """What a spectral start chooses on validation, for `info`; given by options with any other."""
    scalars = model.scalars()
    shape = {} if scalars.filter is None else asdict(scalars.filter)
    return {
        "d": model.embedding.codebooks()[0].shape[1],
        **dict(zip(("user_exponent", "item_exponent"), scalars.exponents, strict=True)),
        "item_scale": scalars.item_scale,
        "filter_weight": scalars.filter_weight,
        **{f"filter_{name}": value for name, value in shape.items()},
        **({"importances": scalars.importances} if scalars.importances else {}),
    }


def kept_choice(meta: dict[str, Any]) -> Choice | None:
    """What a spectral start chose, from the meta of a checkpoint; None of another start, or where it was not kept."""
    return None if meta.get("choice") is None else _CHOICE.validate_python(meta["choice"])


def load_vectors(model: Recommender, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Put learned biases and importances into a model (raises `InputError` where they do not fit)."""
    for name, vector in _vectors(model).items():
        if name not in tensors or tensors[name].shape != vector.shape:
            raise InputError(f"tensor {name!r} is missing or of another size", where=path)
        vector.data.copy_(tensors[name])
    if model.importance is not None:
        model.relink()


def optimizer_tensors(model: Recommender, optimizer_state: Mapping[Tensor, dict[str, Any]]) -> dict[str, Tensor]:
    """Adam's moments and step counts, by parameter name."""
    return {
        f"adam.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer_state.get(parameter, {}).items()
    }


def restore_optimizer(model: Recommender, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Put back what `optimizer_tensors` gave."""
    for name, parameter in model.named_parameters():
        prefix = f"adam.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}


def restore_tiers(tensors: dict[str, Tensor], description: dict[str, Any], path: str | Path) -> list[Tier]:
    """The tiers of a checkpoint (raises `InputError` where a tensor is missing or does not fit)."""
    tiers: list[Tier] = []
    for entry in description["tiers"]:
        name = entry["name"]
        try:
            codebook, indices, weights = (tensors[f"{name}.{part}"] for part in ("codebook", "indices", "weights"))
        except KeyError as error:
            raise InputError(f"tensor {error} is missing", where=path, expected="an unaltered checkpoint") from error
        whitening = tensors.get(f"{name}.whitening")
        square = whitening is None or whitening.shape == (len(codebook), len(codebook))
        if codebook.ndim != 2 or indices.ndim != 2 or indices.shape != weights.shape or not square:
            raise InputError(f"tensors of tier {name!r} have unexpected shapes", where=path)
        if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= len(codebook)):
            raise InputError(f"assignment of tier {name!r} points outside its codebook", where=path)
        assignment = Assignment(indices.long(), weights, len(codebook))
        tiers.append(
            Tier(name, codebook, assignment, threshold=entry["threshold"], gate=entry["gate"], whitening=whitening)
        )
    return tiers


def save_checkpoint(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and JSON-able `meta` to one file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as aside:
        try:
            save_file(plain, aside, metadata={"c2f_dgl": json.dumps({"format": FORMAT, **meta})})
        except SafetensorError as error:
            raise OSError(f"{error}") from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and meta of `save_checkpoint` (raises `InputError` where damaged, missing or of another format)."""
    meta = load_meta(path)
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118  (not a mapping)


def load_meta(path: Path) -> dict[str, Any]:
    """Meta of `save_checkpoint`, without the tensors (raises what `load_checkpoint` does)."""
    with _opened(path) as file:
        meta: dict[str, Any] = json.loads((file.metadata() or {})["c2f_dgl"])
    if meta.get("format") != FORMAT:
        raise InputError(
            f"checkpoint format {meta.get('format')}", where=path, expected=f"format {FORMAT}; {TRAINED_AGAIN}"
        )
    return meta


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError("no such checkpoint", where=path, expected="a run that has finished an epoch")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"not a readable checkpoint: {error}", where=path) from error
