"""Which tests share a worker when pytest runs with ``-n``.

Those that share a cluster, a rendering or a demo stay together, as two workers would make it twice or be in each
other's way. The others are dealt out file by file. The long ones come first, so that none is left over at the end.
"""

from pathlib import Path

import pytest

TOGETHER = ("contract", "e2e", "infra")
FIRST = ("contract", "e2e", "serving", "pipelines", "infra")


def folder(file: str) -> str:
    """The folder below tests/ that ``file``, relative to the project, is in; itself where it is elsewhere."""
    return next(iter(Path(file).parts[1:]), file)


def pytest_collection_modifyitems(items):
    rank = {name: n for n, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(folder(item.nodeid.split("::")[0]), len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):  # what its documentation says to override
            file = nodeid.split("::")[0]
            return folder(file) if folder(file) in TOGETHER else file

    return Together(config, log)
