"""The run folder's small files: what is swept, and what is said of damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2f_dgl.errors import InputError
from c2f_dgl.training.folder import RunFolder


def test_what_a_killed_process_left_aside_is_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / ".model.c2f.x1.part" / "new").mkdir(parents=True)
    (tmp_path / ".summary.json.x2.part").write_text("{")
    (tmp_path / "summary.json").write_text("{}")
    folder.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    folder.reopen()
    assert folder.summary() is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", b"", "is not valid JSON"),
        ("summary.json", b"{[", "is not valid JSON"),
        ("summary.json", b"3", "holds no JSON object"),
        ("summary.json", b"{}", "names no stages"),
        ("environment.json", b"[]", "holds no JSON object"),
        ("metrics.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("metrics.jsonl", b'{"epoch": 0}\n3\n', "line 2: holds no record"),
        ("config.yaml", b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    folder = RunFolder(tmp_path)
    read = {
        "summary.json": folder.summary,
        "environment.json": folder.environment,
        "metrics.jsonl": folder.records,
        "config.yaml": folder.config,
    }
    with pytest.raises(InputError) as caught:
        read[name]()
    assert str(caught.value).startswith(str(tmp_path / name)) and said in str(caught.value)


def test_a_last_record_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n{"epo')
    assert RunFolder(tmp_path).records() == [{"epoch": 0}]
