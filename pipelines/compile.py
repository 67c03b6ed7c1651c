"""The pipeline as KFP's intermediate representation: one YAML file that a cluster runs."""

from __future__ import annotations

from pathlib import Path

from seaway.artifacts import atomic_write
from seaway.config import Config


def compile_pipeline(config: Config, out: Path) -> Path:
    """Write the training pipeline to ``out`` (YAML), with ``config`` as its parameter's default value."""
    from kfp.compiler import Compiler

    from pipelines.training import training_pipeline

    pipeline = training_pipeline(config.pipeline)
    with atomic_write(out.with_suffix(".yaml")) as temporary:
        Compiler().compile(
            pipeline_func=pipeline,
            package_path=str(temporary),
            pipeline_parameters={"config": config.model_dump_json()},
        )
    return out.with_suffix(".yaml")
