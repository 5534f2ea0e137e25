"""Model files on Hugging Face's hub: one in a repository, and its card as the README."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import c2f_dgl
from c2f_dgl.errors import InputError
from c2f_dgl.export.card import card_path
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import replacing
from c2f_dgl.serving import ServingModel

_FILE = "model.c2f"


def push(path: str | Path, repository: str) -> str:
    """Upload a model file and its card in one commit, whose address comes back; a new repository is private.

    `InputError` where `path` is no model file or has no card, there is no token, or the hub refuses.
    """
    with _asking(repository):
        from huggingface_hub import CommitOperationAdd, HfApi, get_token

        ServingModel.load(path)
        if not (card := card_path(path)).is_file():
            raise InputError("no such file", where=card, expected="the card that `c2f-dgl export` wrote")
        if get_token() is None:
            raise InputError("no token", where=repository, expected="`hf auth login` once, or HF_TOKEN set")
        hub = HfApi()
        hub.create_repo(repository, private=True, exist_ok=True)
        files = [CommitOperationAdd(_FILE, str(path)), CommitOperationAdd("README.md", str(card))]
        commit = hub.create_commit(repository, files, commit_message=f"c2f_dgl {c2f_dgl.__version__}")
        return str(commit.commit_url)


def pull(repository: str, path: str | Path) -> None:
    """Download a repository's model file, check it and write it to `path` (`InputError` where that fails)."""
    with _asking(repository):
        from huggingface_hub import hf_hub_download

        found = hf_hub_download(repository, _FILE)
        ServingModel.load(found)
        with replacing(path) as aside:
            shutil.copyfile(found, aside)


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """Turn what the hub's library raises in the body into an `InputError`."""
    check_installed("huggingface_hub", where=repository)
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        expected = "OWNER/NAME, and `hf auth login` or HF_TOKEN where it is private"
        raise InputError("no such repository, or no access to it", where=repository, expected=expected) from error
    except errors.RemoteEntryNotFoundError as error:
        raise InputError(f"holds no {_FILE}", where=repository, expected="what `c2f-dgl push` uploaded") from error
    # The bases of its error of HTTP are that of its client, for no connection, and OSError.
    except (errors.HFValidationError, *errors.HfHubHTTPError.__bases__) as error:  # type: ignore[misc]
        raise InputError(str(error), where=repository) from error
