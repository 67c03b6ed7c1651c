"""Which tests share a worker when pytest runs with ``-n``.

Those that share a cluster, a rendering or a demo stay together, as two workers would make it twice or be in each
other's way. The others are dealt out file by file. The long ones come first, so that none is left over at the end.
"""

from pathlib import Path

import pytest

TOGETHER = {"contract": "cluster", "e2e": "train", "infra": "infra"}
FIRST = ("contract", "e2e", "infra", "serving")


def place(item) -> tuple[str, str]:
    """(folder, file) below tests/."""
    parts = Path(item.path).relative_to(Path(__file__).parent).parts
    return parts[0], "-".join(parts)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    for item in items:
        folder, file = place(item)
        item.add_marker(pytest.mark.xdist_group(TOGETHER.get(folder, file)))
    rank = {folder: n for n, folder in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(place(item)[0], len(FIRST)))
