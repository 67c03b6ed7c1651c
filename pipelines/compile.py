"""The pipeline as KFP's intermediate representation: one YAML file that a cluster runs."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.pods import furnish, pod_config
from seaway.artifacts import atomic_write
from seaway.config import Config
from seaway.release_bundle import publish_pipeline


@dataclass(frozen=True)
class Compiled:
    """``spec``: the pipeline and, beside it, its platform's part, as the Kubeflow Pipelines API takes them.

    ``config``: what the pods read; its pipeline.digest is ``digest``, SHA-256 of the file that ``seaway compile``
    writes, which is ``data``.
    """

    spec: dict[str, Any]
    data: bytes
    digest: str
    config: Config


def compile_pipeline(config: Config, out: Path, pipeline: Any = None) -> Path:
    """Write the training pipeline (or another one) to ``out`` (YAML), with ``config``, as pods read it, as default."""
    from kfp.compiler import Compiler

    pods = pod_config(config)
    with atomic_write(out.with_suffix(".yaml")) as temporary:
        Compiler().compile(
            pipeline_func=pipeline or cluster_pipeline(config),
            package_path=str(temporary),
            pipeline_parameters={"config": pods.model_dump_json()},
        )
    return out.with_suffix(".yaml")


def cluster_pipeline(config: Config) -> Any:
    """The training pipeline whose tasks have all that their pods need."""
    from pipelines.training import training_pipeline

    return training_pipeline(config.pipeline, furnish(config))


def compiled(config: Config, pipeline: Any = None) -> Compiled:
    """The compiled pipeline in memory; SeawayError as ``pod_config``."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        file = compile_pipeline(config, Path(folder) / "pipeline.yaml", pipeline)
        data = file.read_bytes()
    spec, *platforms = yaml.safe_load_all(data)
    digest = hashlib.sha256(data).hexdigest()
    pods = pod_config(config)
    pods = pods.model_copy(update={"pipeline": pods.pipeline.model_copy(update={"digest": digest})})
    whole = {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec
    return Compiled(whole, data, digest, pods)


def kept(config: Config, pipeline: Any) -> Config:
    """The configuration of a run on this machine, whose compiled pipeline is kept for the release bundle."""
    from kfp.compiler import Compiler

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        Compiler().compile(pipeline_func=pipeline, package_path=str(file))
        digest = publish_pipeline(config, file.read_bytes())
    return config.model_copy(update={"pipeline": config.pipeline.model_copy(update={"digest": digest})})
