"""The KFP component of the step register; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    config: str,
    run: str,
    raw: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    out: dsl.Output[dsl.Artifact],
):
    """Register the model as a version, with its lineage."""
    from components.base import run_step

    run_step(
        "register",
        config,
        run=run,
        inputs={"raw": raw, "dataset": dataset, "model": model, "evaluation": evaluation},
        outputs={"out": out},
    )
