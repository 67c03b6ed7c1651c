"""The batch scoring pipeline: from raw rows to scores of a registered version.

1. ingest     the raw rows of every source
2. validate   the data contract; bad rows to quarantine
3. features   the features of every event, as of that event
4. score      their scores, a partition at a time

The first three are the training pipeline's own steps: what they have made of the same rows is taken, not made again.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.features.component import features
from components.ingest.component import ingest
from components.score.component import score
from components.validate.component import validate
from pipelines.pods import Furnish
from pipelines.training import placed
from seaway.config import Config, Pipeline


def scoring_pipeline(settings: Pipeline, furnish: Furnish | None = None) -> BaseComponent:
    """As pipelines.training.training_pipeline: the same parameters, images, resources and retries by step."""

    def place(task: dsl.PipelineTask, step: str, title: str) -> dsl.PipelineTask:
        placed(task, step, settings).set_display_name(title)
        return furnish(task, step) if furnish else task

    @dsl.pipeline(name="seaway-batch-score", description="Raw rows to scores.")
    def scoring(config: str, run: str = ""):
        raw = place(ingest(config=config), "ingest", "Ingest raw rows")
        valid = place(validate(config=config, raw=raw.outputs["out"]), "validate", "Validate rows")
        table = place(features(config=config, valid=valid.outputs["out"]), "features", "Compute features")
        place(score(config=config, features=table.outputs["out"]), "score", "Score rows")

    return scoring


def cluster_scoring(config: Config) -> BaseComponent:
    """The pipeline whose tasks have all that their pods need."""
    from pipelines.pods import furnish

    return scoring_pipeline(config.pipeline, furnish(config))


def run_scoring(config: Config, **how: Any) -> dict[str, Any]:
    """Run the pipeline where the configuration says; ``how`` and the record as of pipelines.run.run_pipeline."""
    if config.pipeline.host:
        from pipelines.cluster import submit

        return submit(config, pipeline=cluster_scoring(config), **how)
    from pipelines.run import run_pipeline

    return run_pipeline(scoring_pipeline(config.pipeline), config, **how)
