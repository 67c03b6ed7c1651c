"""Serving the champion on this machine, outside of a release; and asking it."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from seaway.artifacts import read_json
from seaway.bundles import local_copy
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import MICRO
from seaway.hooks import resolve
from serving import manifests
from serving.release_plan import online_store, predictor
from serving.substrate.base import NotFound, Substrate
from serving.substrate.local import LocalSubstrate

PREDICTIONS = "/api/v1.0/predictions"


def serve_champion(
    config: Config, run: Mapping[str, Any], *, port: int = 0, on_event: Callable[[str], None] = print
) -> None:
    """Serve the registry's champion behind Envoy until SIGINT or SIGTERM.

    ``run``: the training run whose features fill the online store, as of the end of its data. Raises
    SeawayError when there is no champion or it cannot be served.
    """
    from seaway.registry import CHAMPION, Registry

    champion = Registry.of(config).get(CHAMPION)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    store = online_store(config, "serve")
    on_event(f"filling the online store ({store['type']}) with all that the data holds")
    _fill(config, Path(run["outputs"]["features"]), store)
    served = predictor(config, champion.as_record(), 100, store, {})
    obj = manifests.seldon_deployment(
        config.workload.name, config.serving.namespace, [served], image=config.serving.image
    )
    with LocalSubstrate(_home(config), timeout_ms=config.serving.timeout_ms, port=port) as substrate:
        _put(substrate, obj)
        status = substrate.wait_ready(config.workload.name, timeout=90)
        on_event(
            f"version {champion.version} of {config.workload.name} answers at {status.url}{PREDICTIONS}\n"
            f"metrics at {substrate.metrics_url}; Ctrl-C stops everything"
        )
        while not stop.wait(0.5):
            pass
    on_event("stopped")


def _put(substrate: Substrate, obj: Mapping[str, Any]) -> None:
    """Make ``obj`` the released object, in place of the one of an earlier serving."""
    try:
        found = substrate.read(obj["metadata"]["name"])["metadata"]
    except NotFound:
        substrate.create(dict(obj))
        return
    kept = {key: found[key] for key in ("uid", "resourceVersion", "generation") if key in found}
    substrate.write({**obj, "metadata": {**obj["metadata"], **kept}})


def ask(config: Config, request: Mapping[str, str], *, url: str | None = None, explain: bool = False) -> dict[str, Any]:
    """The answer to one request, given as text by input name: probability, decision, tags.

    Raises SeawayError that names a missing or unknown input, or says that nothing serves.
    """
    from seaway.registry import CHAMPION, Registry

    if url is None:
        bundle = local_copy(config, Registry.of(config).get(CHAMPION).bundle)
        inputs = tuple(read_json(bundle / "model.json")["features"]["inputs"])
        status = _status(config)
    else:
        inputs, status = tuple(resolve(config.workload.features, config.root).inputs), url
    if wrong := sorted(set(request) ^ set(inputs)):
        raise SeawayError(f"a request has exactly {', '.join(inputs)}; missing or unknown: {', '.join(wrong)}")
    columns = config.workload.sources[config.workload.source].columns
    texts = {name for name, column in columns.items() if column.type == "str"}  # "007" stays what it is
    values = [request[name] if name in texts else _number(request[name]) for name in inputs]
    tags = {"explain": explain, "features": explain}
    body = {"data": {"names": list(inputs), "ndarray": [values]}, "meta": {"tags": tags}}
    answer = _post(f"{status}{PREDICTIONS}", body)
    return {**dict(zip(answer["data"]["names"], answer["data"]["ndarray"][0], strict=True)), **answer["meta"]["tags"]}


def _status(config: Config) -> str:
    for home in (_home(config), config.home):
        try:
            status = LocalSubstrate(home).status(config.workload.name)
        except SeawayError:
            continue
        if status.url:
            return status.url
    raise SeawayError(f"nothing serves {config.workload.name} in {config.home}: start `seaway serve`, or give --url")


def _post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    call = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(call, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SeawayError(f"the server refused the request with {error.code}: {error.read().decode()[:500]}") from None
    except (OSError, ValueError) as error:
        raise SeawayError(f"no answer from {url}: {error}") from None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _home(config: Config) -> Path:
    return config.home / "serve"


def _fill(config: Config, features: Path, store: dict[str, Any]) -> None:
    import polars as pl

    from serving.stream import FeatureStream

    newest = pl.scan_parquet(features / "features.parquet").select(pl.col("event_timestamp").max()).collect().item()
    stream = FeatureStream(config, resolve(config.workload.features, config.root), features, store)
    stream.materialize((int(newest.replace(tzinfo=UTC).timestamp()) + 1) * MICRO)
    stream.close()
