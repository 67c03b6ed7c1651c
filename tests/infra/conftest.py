"""The three stacks, each rendered once a session."""

from __future__ import annotations

import pytest

from tests.infra.rendering import STACKS, Rendered, render


@pytest.fixture(params=STACKS)
def env(request) -> str:
    return request.param


@pytest.fixture
def rendered(env) -> Rendered:
    """What the program makes in each of the stacks: a test that asks for it runs three times."""
    return render(env)
