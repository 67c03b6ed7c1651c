"""The KFP component of the step ingest; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(config: str, out: dsl.Output[dsl.Dataset]):
    """Bring in the raw rows of every source."""
    from components.base import run_step

    run_step("ingest", config, outputs={"out": out})
