"""The KFP component of the step train; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(config: str, dataset: dsl.Input[dsl.Dataset], best: dsl.Input[dsl.Artifact], out: dsl.Output[dsl.Model]):
    """Train the model with the best parameters, and the plain baseline."""
    from components.base import run_step

    run_step("train", config, inputs={"dataset": dataset, "best": best}, outputs={"out": out})
