"""The KFP component of the step start; what it does is in pipelines/start.py, as it needs serving."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start(
    config: str,
    request: dsl.Input[dsl.Artifact],
    features: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Artifact],
):
    """Start the requested release on the cluster; on one machine it waits for a person's command."""
    from components.base import run_step

    run_step("start", config, inputs={"request": request, "features": features}, outputs={"out": out})
