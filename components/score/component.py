"""The KFP component of the step score; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def score(config: str, features: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Artifact]):
    """Score the rows of the feature table with a registered version."""
    from components.base import run_step

    run_step("score", config, inputs={"features": features}, outputs={"out": out})
