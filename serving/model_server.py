"""The model class that Seldon serves: request in, online features, ONNX score, answer with its lineage.

Seldon calls ``load`` in each worker and ``predict_raw`` for each request. There is deliberately no
``predict``: Seldon's dispatcher runs that one twice when it raises a TypeError.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from seaway import scorer
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.signing import opened
from seaway.slices import FILE, GLOBAL, Slices
from seaway.storage import is_uri
from serving.pod_parts import BUNDLE, STACK, UPDATE
from serving.wire import MAX_NUMBER, Refused, guard, header_id, read_request

log = logging.getLogger(__name__)


class ModelServer:
    """Serves one model bundle. ``online_store``: JSON text of the store's settings; ``project``: Feast's.

    ``version``: the number of the environment's registry, which answers carry; without it the bundle's own.
    ``log``: the folder of prediction logs; none without it. ``digest`` and ``public_key``: the bundle must be
    this one and signed with the key of this file; without them, which no release does, it is not checked.
    """

    def __init__(
        self,
        bundle: str,
        online_store: str = "{}",
        project: str = "seaway",
        log: str = "",
        digest: str = "",
        public_key: str = "",
        version: str = "",
        **further: Any,
    ):
        self.bundle = _folder(bundle)
        self.online_store = json.loads(online_store)
        self.project, self.log, self.digest, self.public_key = project, log, digest, public_key
        if further:
            raise SeawayError(f"unknown parameter of {type(self).__name__}: {', '.join(sorted(further))}")
        self.version = version
        self.model_error_handler = guard()  # Seldon registers this blueprint
        self._session: Any = None

    def load(self, registry: Any = None) -> None:
        """Read the bundle, check it and open the store. Any failure ends the server with its reason."""
        try:
            self._load(registry)
        except Exception as error:
            # Seldon takes an AttributeError or NotImplementedError in here for "no load method"
            raise RuntimeError(f"the bundle {self.bundle} cannot be served: {error}") from error

    def _load(self, registry: Any) -> None:
        from seaway.online import OnlineReader
        from serving.metrics import ServerMetrics
        from serving.object_log import log_of

        read = self._trusted()
        record = json.loads(read("model.json"))
        identity = json.loads(read("identity.json")) if (self.bundle / "identity.json").exists() else {}
        self.spec = FeatureSpec.from_record(record["features"])
        keys = {view.key for view in (*self.spec.windows, *self.spec.latest)}
        self._measures = [name for name in self.spec.inputs if name != self.spec.time and name not in keys]
        for where, claims in (("model.json", record), ("identity.json", identity)):
            if claims.get("feature_hash", self.spec.hash) != self.spec.hash:
                raise SeawayError(f"{where} claims feature hash {claims['feature_hash']}, not {self.spec.hash}")
        self.threshold = float(record["threshold"])
        self.background = np.asarray(record.get("background", []), dtype=np.float32)
        self.reasons = record.get("reasons", {})
        self.lineage = {
            "model_version": self.version or str(identity.get("version", "unregistered")),
            "run": str(identity.get("run", "")),
            "feature_hash": self.spec.hash,
            "bundle": self.digest,
            "stack": os.environ.get(STACK, "local"),
            "stack_update": os.environ.get(UPDATE, ""),
        }
        self._slices = Slices(read, len(self.spec.names)) if (self.bundle / FILE).exists() else None
        self._reader = OnlineReader(self.online_store, self.project, self.spec)
        self._session = scorer.session(read("model.onnx"), len(self.spec.names))
        self._score(np.zeros((1, len(self.spec.names)), dtype=np.float32))  # the first run is slow
        if self._slices:
            self._slices.check()
        self.counts = ServerMetrics(registry)
        lost = self.counts.lost.inc
        self._answers = log_of(self.log, self.lineage["model_version"], lost) if self.log else None

    def _trusted(self) -> Callable[[str], bytes]:
        """Gives the bytes of the bundle's files, each as it was signed; SeawayError for a bundle that is not."""
        if not self.digest and not self.public_key:
            return lambda name: (self.bundle / name).read_bytes()
        if not self.digest or not self.public_key:
            raise SeawayError("the parameters digest and public_key go together: give both")
        return opened(self.bundle, Path(self.public_key), self.digest).read

    def health_status(self) -> str:
        """Answers once the model is loaded; Seldon serves it at /health/status."""
        if self._session is None:
            raise Refused("NOT_READY", "the model is not loaded", 503)
        return "ready"

    def init_metadata(self) -> dict[str, Any]:
        return {"name": "seaway", "versions": [], "platform": "onnxruntime", "inputs": [], "outputs": []}

    def predict_raw(self, message: Any) -> dict[str, Any]:
        """One answer a request of 1 to 64 rows; Refused becomes a 4xx, anything else a plain 500."""
        start = perf_counter()
        try:
            answer = self._answer(message)
        except Refused as error:
            self.counts.refused.labels(error.reason).inc()
            raise
        except Exception:
            self.counts.failed.inc()
            log.exception("a prediction failed")
            # the cause stays in the log: an answer never carries what is inside
            raise Refused("INTERNAL_ERROR", "the prediction failed; the server's log has the cause", 500) from None
        self.counts.total.observe(perf_counter() - start)
        return answer

    def _answer(self, message: Any) -> dict[str, Any]:
        rows, wishes, puid = read_request(message, self.spec.inputs)
        features = np.stack([self._features(i, row) for i, row in enumerate(rows)])
        start = perf_counter()
        own = self._routes(rows, features)
        scores = self.score(features, own)
        self.counts.model.observe(perf_counter() - start)
        if scores.shape != (len(rows),) or not np.isfinite(scores).all():
            raise SeawayError("the model's output is not one finite number a row")
        cuts = self._slices.cuts(own, self.threshold) if self._slices else self.threshold
        decisions = (scores >= cuts).astype(int)
        tags: dict[str, Any] = dict(self.lineage)
        if self._slices:
            tags["slice"] = [name or GLOBAL for name in own]
        if wishes["features"]:
            tags["features"] = [[float(value) for value in row] for row in features]
        if wishes["explain"]:
            tags["reasons"] = [self._reasons(row, name) for row, name in zip(features, own or repeat(""), strict=False)]
        self.counts.answered.inc(len(rows))
        self.counts.decisions.inc(int(decisions.sum()))
        if self._answers:
            self._answers.add(puid or header_id(), scores.tolist(), decisions.tolist(), tags.get("slice", ()))
        table = [[float(score), int(decision)] for score, decision in zip(scores, decisions, strict=True)]
        meta = {"tags": tags, "puid": puid} if puid else {"tags": tags}
        return {"data": {"names": ["probability", "decision"], "ndarray": table}, "meta": meta}

    def _features(self, index: int, row: dict[str, Any]) -> np.ndarray:
        start = perf_counter()
        for name in self._measures:
            if isinstance(row[name], (int, float)) and abs(row[name]) > MAX_NUMBER:
                raise Refused("BAD_VALUE", f"row {index}, {name}: {row[name]!r} is out of range")
        try:
            found = self._reader.features(row)
        except (ValueError, OverflowError) as error:
            raise Refused("BAD_VALUE", f"row {index}: {error}") from None
        self.counts.lookup.observe(perf_counter() - start)
        if not np.isfinite(found).all():
            raise Refused("BAD_VALUE", f"row {index}: a value is out of range")
        return found

    def _routes(self, rows: list[dict[str, Any]], features: np.ndarray) -> list[str]:
        """The slice of each row, "" for the global model; by a feature where the column is one; [] without slices."""
        if not self._slices:
            return []
        by = self._slices.by
        if by in self.spec.names:
            return self._slices.names(features[:, self.spec.names.index(by)].tolist())
        return self._slices.names(row[by] for row in rows)

    def _reasons(self, row: np.ndarray, own: str) -> list[dict[str, Any]]:
        """What moved a row's score, against the reference rows of the model that made it: that of slice ``own``."""
        from seaway.attribution import contributions, reason_codes

        background, reasons = self._slices.background(own) if own else (self.background, self.reasons)
        if not len(background):
            return []
        phi = contributions(lambda some: self.score(some, [own] * len(some)), row, background)
        return reason_codes(phi, self.spec.names, row, reasons)

    def score(self, features: np.ndarray, own: Sequence[str] = ()) -> np.ndarray:
        """Probabilities (rows,) of raw float32 features (rows, features); ``own``: the slice of each row, or ""."""
        if self._slices and own:
            return self._slices.scores(own, features, self._score)
        return self._score(features)

    def _score(self, features: np.ndarray) -> np.ndarray:
        return scorer.scores(self._session, features)


def _folder(bundle: str) -> Path:
    """Where a bundle lies: one that is named by its URI has been fetched by the pod's init container."""
    if not is_uri(bundle):
        return Path(bundle)
    if not os.environ.get(BUNDLE):
        raise SeawayError(f"the bundle {bundle} is not here: fetch it (serving.fetch_bundle) and name it by {BUNDLE}")
    return Path(os.environ[BUNDLE])
