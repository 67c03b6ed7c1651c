"""The KFP component of the step validate; what it does is in step.py."""

from kfp import dsl

from components.base import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    config: str, raw: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Dataset], quarantine: dsl.Output[dsl.Dataset]
):
    """Check every row against the data contract; bad ones go to quarantine."""
    from components.base import run_step

    run_step("validate", config, inputs={"raw": raw}, outputs={"out": out, "quarantine": quarantine})
