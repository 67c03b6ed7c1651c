"""The client of MLflow, made quiet; imported only where something is written or asked of a server."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError


def connect(uri: str, name: str, file: Path | None) -> Any:
    """The client of a tracking server or ``file``, which has the registered model ``name`` afterwards.

    Raises SeawayError for a server that does not answer or refuses.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default tries for minutes, without a word
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise SeawayError(
                f"the tracking server {uri} cannot be asked ({str(error)[:200]}): check tracking_uri, and from outside "
                "of its cluster forward its port"
            ) from None
        client.create_registered_model(name)
    return client


def experiment(client: Any, name: str, artifacts: Path | None) -> str:
    """The id of the experiment ``name``, made where it is new with its artifacts below the folder."""
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    return client.create_experiment(name, artifact_location=artifacts.absolute().as_uri() if artifacts else None)


def keep(client: Any, run_id: str, metrics: dict[str, float], files: list[Path]) -> None:
    """Log metrics, and files and folders by their names."""
    for key, value in metrics.items():
        client.log_metric(run_id, key, float(value))
    for path in files:
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        log(run_id, str(path), *([path.name] if path.is_dir() else []))
