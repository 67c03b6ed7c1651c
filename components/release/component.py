"""The KFP component of the step release; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release(config: str, version: dsl.Input[dsl.Artifact], out: dsl.Output[dsl.Artifact]):
    """Ask for the release of the version; refused unless its verdict is a pass."""
    from components.base import run_step

    run_step("release", config, inputs={"version": version}, outputs={"out": out})
