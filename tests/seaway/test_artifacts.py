"""Files that cross rooms."""

import subprocess
import sys

from seaway.artifacts import append_lines


def test_a_torn_line_is_ended_before_new_ones(tmp_path):
    file = tmp_path / "deep" / "lines.jsonl"
    append_lines(file, ["one", "two"])
    with file.open("a") as stream:
        stream.write("thr")  # a writer was killed here
    append_lines(file, ["four"])
    assert file.read_text() == "one\ntwo\nthr\nfour\n"


def test_writers_at_once_lose_and_mix_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from seaway.artifacts import append_lines\n"
        "for i in range(50): append_lines(Path(sys.argv[1]), [f'{sys.argv[2]}-{i}-{part}' for part in 'ab'])"
    )
    file = tmp_path / "lines"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), str(n)]) for n in range(3)]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    lines = file.read_text().split("\n")
    assert lines.pop() == "" and len(lines) == 300
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    assert all(a[:-1] == b[:-1] and (a[-1], b[-1]) == ("a", "b") for a, b in pairs)  # each append stays whole
    for n in "012":
        assert [a for a, _ in pairs if a.startswith(n)] == [f"{n}-{i}-a" for i in range(50)]
