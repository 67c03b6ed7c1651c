"""The KFP component of the step dataset; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dataset(config: str, features: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Dataset]):
    """Join the training set point in time through the feature store, and split it."""
    from components.base import run_step

    run_step("dataset", config, inputs={"features": features}, outputs={"out": out})
