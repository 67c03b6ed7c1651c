"""The KFP component of the step features; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def features(config: str, valid: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Dataset]):
    """Compute the features of every event as of that event."""
    from components.base import run_step

    run_step("features", config, inputs={"valid": valid}, outputs={"out": out})
