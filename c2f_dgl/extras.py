"""Libraries that not every use needs: `pip install c2f_dgl` brings numpy and safetensors, an extra the rest."""

from __future__ import annotations

import importlib.util
from typing import Any

from c2f_dgl.errors import InputError

# What the extras of setup.cfg bring, by the names that are imported.
EXTRAS = {
    "train": "torch dgl scipy pandas pyarrow sklearn pymetis sparse_dot_topn pydantic yaml typer rich jinja2 "
    "platformdirs packaging filelock typing_extensions",
    "serve": "fastapi fastapi_offline uvicorn pydantic typer rich",
    "bench": "implicit matplotlib",
    "tune": "optuna",
    "prepare": "duckdb",
    "onnx": "onnx",
    "faiss": "faiss",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow sqlalchemy alembic",
    "wandb": "wandb",
    "hub": "huggingface_hub",
}


class MissingExtraError(InputError, ImportError):
    """A library is not installed; the message says in one line which extra brings it."""


def missing(module: str, where: str | None = None) -> MissingExtraError | None:
    """The error for a module, or the one it is in, that is not installed; None where no extra brings it."""
    module = module.partition(".")[0]
    brings = [f"'c2f_dgl[{extra}]'" for extra, modules in EXTRAS.items() if module in modules.split()]
    expected = f"pip install {' or '.join(brings)}"
    return MissingExtraError(f"{module} is not installed", where=where, expected=expected) if brings else None


def check_installed(*modules: str, where: str) -> None:
    """Raise `MissingExtraError` where one of `modules` is not installed; none is imported."""
    for module in modules:
        spec = importlib.util.find_spec(module)
        # Without an origin it is a folder that happens to have the name, as wandb/ with what the library wrote.
        if (spec is None or spec.origin is None) and (error := missing(module, where)) is not None:
            raise error


def imported(home: str, name: str) -> Any:
    """`name` of the module `home`; raises `MissingExtraError` where that needs a library that is not installed."""
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        raise missing(error.name or "") or error from None
