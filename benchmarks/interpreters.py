"""Which versions of Python it works with: `python benchmarks/interpreters.py PYTHON [PYTHON ...]`.

For each interpreter an environment of its own, made by bin/setup with extras train and serve; `c2f-dgl doctor`, which
trains; and the tests of `QUICK` (serving with numpy alone, the doctor, DGL's import). What came of it is written to
benchmarks/results/interpreters/<version>.json. Only the standard library is imported, so that any Python runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "interpreters"
QUICK = (
    "tests/serving/test_codes.py",
    "tests/serving/test_file.py",
    "tests/serving/test_rerank.py",
    "tests/cli/test_doctor.py",
    "tests/test_dgl_import.py",
)
ASKED = ("3.10", "3.11", "3.12", "3.13", "3.14")
VERSIONS = """
import json, platform, numpy, torch
from c2f_dgl.dgl_import import dgl
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__, "dgl": dgl.__version__,
                  "numpy": numpy.__version__}))
"""


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(f"expected: interpreters, as in python {sys.argv[0]} python3.12")
    for python in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
            record = tried(python, Path(folder))
        RESULTS.mkdir(parents=True, exist_ok=True)
        minor = ".".join(record["python"].split(".")[:2])
        (RESULTS / f"{minor}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(record)


def tried(python: str, folder: Path) -> dict[str, Any]:
    """Versions of an interpreter's environment, whether the doctor is content, and the tests by how they ended."""
    venv = folder / "venv"
    environment = {**os.environ, "PYTHON": python, "VENV": str(venv)}
    subprocess.run(["bin/setup", "train,serve"], cwd=ROOT, env=environment, check=True)
    own = str(venv / "bin" / "python")
    needed = ["pytest", "hypothesis", "httpx"]
    subprocess.run([own, "-m", "pip", "install", "-q", "-c", "constraints.txt", *needed], cwd=ROOT, check=True)
    versions = json.loads(subprocess.run([own, "-c", VERSIONS], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    doctor = subprocess.run([own, "-m", "c2f_dgl", "doctor"], cwd=ROOT)
    report = folder / "report.xml"
    subprocess.run([own, "-m", "pytest", f"--junitxml={report}", *QUICK], cwd=ROOT)
    (suite,) = ET.parse(report).getroot().iter("testsuite")
    tests, failed, skipped = (
        sum(int(suite.attrib[key]) for key in keys) for keys in (["tests"], ["failures", "errors"], ["skipped"])
    )
    ended = {"passed": tests - failed - skipped, "failed": failed, "skipped": skipped}
    return {**versions, "doctor": doctor.returncode == 0, **ended}


def table() -> str:
    """Versions and tests by interpreter."""
    lines = ["| Python | torch | DGL | numpy | `doctor` | tests passed | failed | skipped |", "|---" * 8 + "|"]
    for minor in ASKED:
        path = RESULTS / f"{minor}.json"
        if not path.exists():
            lines.append(f"| {minor} | not tried |" + " |" * 6)
            continue
        record = json.loads(path.read_text())
        record["doctor"] = "works" if record["doctor"] else "complains"
        keys = ("python", "torch", "dgl", "numpy", "doctor", "passed", "failed", "skipped")
        lines.append(f"| {' | '.join(str(record[key]) for key in keys)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
