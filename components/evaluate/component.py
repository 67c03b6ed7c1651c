"""The KFP component of the step evaluate; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(config: str, dataset: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model], out: dsl.Output[dsl.Artifact]):
    """Measure the model on held-out rows, against baseline and champion; give a verdict."""
    from components.base import run_step

    run_step("evaluate", config, inputs={"dataset": dataset, "model": model}, outputs={"out": out})
