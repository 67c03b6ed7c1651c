import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # kfp_server, kfp_contract


@pytest.fixture(scope="session")
def small():
    """The small pipeline's module (tests are no package, so it is loaded from its file)."""
    spec = importlib.util.spec_from_file_location("small_pipeline", Path(__file__).parent / "small.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
