"""The KFP component of the step tune; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune(config: str, dataset: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Artifact]):
    """Search for the best parameters."""
    from components.base import run_step

    run_step("tune", config, inputs={"dataset": dataset}, outputs={"out": out})
