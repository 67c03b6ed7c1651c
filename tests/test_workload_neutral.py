"""What is particular to the demo's problem sits in the workload's own files; the train knows nothing of it."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from seaway.config import project_root

WORDS = re.compile(r"fraud|\bTX_|TERMINAL_ID|CUSTOMER_ID|\bcard[-_ ](?:risk|holder|model)|\bpayments?\b", re.IGNORECASE)
OWN_ROOMS = ("feature_repo/", "workload/", "tests/", "docs/", "benchmarks/")
OWN_FILES = {"config/workload.yaml", "README.md", "CHANGELOG.md"}
KINDS = {".py", ".pyi", ".yaml", ".yml", ".toml", ".md", ".html", ".j2", ".jinja", ".css", ".js", ".sh", ".cfg", ".ini"}
NAMES = {"Makefile", "Containerfile", "Dockerfile"}


def product_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project_root(),
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = (PurePosixPath(name) for name in listed.stdout.split("\0") if name)
    return sorted(
        str(file)
        for file in files
        if not str(file).startswith(OWN_ROOMS)
        and str(file) not in OWN_FILES
        and (file.suffix in KINDS or file.name in NAMES or "bin" in file.parts or file.parts[0] == ".ci")
        and (project_root() / file).is_file()
    )


def findings(name: str) -> list[str]:
    text = (project_root() / name).read_text()
    return [f"{name}:{n}: {line.strip()}" for n, line in enumerate(text.splitlines(), 1) if WORDS.search(line)]


def test_the_rest_of_the_train_knows_no_workload():
    files = product_files()
    assert {"seaway/config/__init__.py", "components/validate/step.py", "config/base.yaml", "Makefile"} <= set(files)
    assert [line for name in files for line in findings(name)] == []


def test_the_words_would_be_found():
    assert findings("config/workload.yaml")
    assert findings("feature_repo/definitions.py")
    assert not WORDS.search("discard the card_precision of ctx_id")


def test_no_file_of_the_train_names_a_module_of_a_workload():
    imports = re.compile(r"^\s*(?:from|import) (?:workload|feature_repo|machine_failure)\b", re.MULTILINE)
    offenders = [f for f in product_files() if f.endswith(".py") and imports.search((project_root() / f).read_text())]
    assert offenders == []
