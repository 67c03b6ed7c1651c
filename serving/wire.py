"""What may come over the wire, and how a refusal looks: every bad request is a 4xx with a JSON reason."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

MAX_BODY = 1 << 20  # bytes
MAX_ROWS = 64  # a request
MAX_DEPTH = 16  # of nested JSON
MAX_NUMBER = 1e12  # sums of quanta stay exact below it
MAX_ID = 128  # characters of a request's id
PREDICT_PATHS = ("/predict", "/api/v1.0/predictions", "/api/v0.1/predictions")
READ_PATHS = ("/health/ping", "/health/status", "/api/v1.0/health/status", "/metadata", "/api/v1.0/metadata")

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Refused(ValueError):
    """A request that cannot be answered; ``reason`` is a constant word for counting, the text is for people."""

    def __init__(self, reason: str, text: str, status: int = 400):
        super().__init__(text)
        self.reason, self.status = reason, status


def error_body(status: int, reason: str, text: str) -> dict[str, Any]:
    """Seldon's error record."""
    return {"status": {"status": 1, "code": status, "reason": reason, "info": text}}


def strict_json(body: bytes) -> Any:
    """JSON as the standard has it: no NaN or Infinity, no number out of range, no key twice, not too deep."""
    if _depth(body) > MAX_DEPTH:
        raise Refused("BAD_JSON", f"the body is nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(body, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("BAD_JSON", "the body is not JSON in UTF-8") from None


def _depth(body: bytes) -> int:
    """At least the depth of the nesting (brackets inside texts count too)."""
    depth = deepest = 0
    for byte in body.translate(None, _NOT_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            break
    return deepest


def _no_constant(text: str) -> None:
    raise Refused("BAD_JSON", f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refused("BAD_JSON", f"the number {text[:32]} is out of range")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise Refused("BAD_JSON", "the body has a key twice in one object")
    return record


def read_request(message: Any, inputs: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, bool], str]:
    """The rows of a request, each by input name, what was asked for (``explain``, ``features``), and its id.

    Refused (400) unless ``data.names`` are the inputs, in any order, and ``data.ndarray`` has 1 to
    MAX_ROWS rows of as many numbers, texts or nulls. What a value means is for the feature reader to check.
    The id is ``meta.puid``, Seldon's word for it; "" when there is none.
    """
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, dict):
        raise Refused("BAD_SHAPE", 'the body must be {"data": {"names": [...], "ndarray": [[...]]}}')
    names, table = data.get("names"), data.get("ndarray")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise Refused("BAD_NAMES", "data.names must be a list of the inputs' names")
    if len(names) != len(inputs) or set(names) != set(inputs):
        raise Refused("BAD_NAMES", f"data.names must be {', '.join(inputs)}, each once")
    if not isinstance(table, list) or not table:
        raise Refused("BAD_SHAPE", "data.ndarray must be a list of at least one row")
    if len(table) > MAX_ROWS:
        raise Refused("TOO_MANY_ROWS", f"{len(table)} rows in a request; at most {MAX_ROWS}", 413)
    return [_row(i, row, names) for i, row in enumerate(table)], *_meta(message.get("meta"))


def _row(index: int, row: Any, names: list[str]) -> dict[str, Any]:
    if not isinstance(row, list) or len(row) != len(names):
        raise Refused("BAD_SHAPE", f"row {index} must be a list of {len(names)} values")
    for name, value in zip(names, row, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float, str, type(None))):
            raise Refused("BAD_VALUE", f"row {index}, {name}: a number or a text is needed")
        if isinstance(value, float) and not abs(value) <= MAX_NUMBER:  # also NaN
            raise Refused("BAD_VALUE", f"row {index}, {name}: {value!r} is out of range")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise Refused("BAD_VALUE", f"row {index}, {name}: the number is out of range")
        if isinstance(value, str) and len(value) > 64:
            raise Refused("BAD_VALUE", f"row {index}, {name}: the text is longer than 64")
    return dict(zip(names, row, strict=True))


def _meta(meta: Any) -> tuple[dict[str, bool], str]:
    meta = {} if meta is None else meta
    tags = meta.get("tags", {}) if isinstance(meta, dict) else None
    if not isinstance(tags, dict):
        raise Refused("BAD_SHAPE", "meta must be an object, and meta.tags too")
    wishes = {name: tags.get(name, False) for name in ("explain", "features")}
    for name, value in wishes.items():
        if not isinstance(value, bool):
            raise Refused("BAD_VALUE", f"meta.tags.{name} must be true or false")
    puid = "" if meta.get("puid") is None else meta["puid"]
    if not is_id(puid):
        raise Refused("BAD_ID", f"meta.puid must be a text of at most {MAX_ID} printable characters")
    return wishes, puid


def is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID and value.isprintable()


def header_id() -> str:
    """The x-request-id of the request being answered, which the proxy makes; "" without a usable one."""
    from flask import has_request_context, request

    value = request.headers.get("x-request-id", "") if has_request_context() else ""
    return value if is_id(value) else ""


def guard() -> Any:
    """A Flask blueprint for Seldon's ``model_error_handler``: refuses what must not reach the model class.

    Only predictions, health and metadata are served; sizes and types are checked before the body is read.
    """
    from flask import Blueprint, jsonify, request
    from werkzeug.exceptions import HTTPException

    blueprint = Blueprint("wire", __name__)

    @blueprint.before_app_request
    def check() -> None:
        path = request.path
        if path in READ_PATHS:
            return
        if path not in PREDICT_PATHS:
            raise Refused("NOT_FOUND", f"there is nothing at this path; POST to {PREDICT_PATHS[1]}", 404)
        if request.method != "POST":
            raise Refused("METHOD_NOT_ALLOWED", "use POST", 405)
        if request.args:
            raise Refused("BAD_SHAPE", "no query is taken; send the request as the body")
        if request.mimetype != "application/json":
            raise Refused("UNSUPPORTED_TYPE", "the Content-Type must be application/json", 415)
        if request.content_length is None:
            raise Refused("LENGTH_REQUIRED", "send a Content-Length", 411)
        if request.content_length > MAX_BODY:
            raise Refused("TOO_LARGE", f"the body is larger than {MAX_BODY} bytes", 413)
        if not isinstance(strict_json(request.get_data()), dict):
            raise Refused("BAD_SHAPE", "the body must be a JSON object")

    @blueprint.app_errorhandler(Refused)
    def refused(error: Refused) -> Any:
        return jsonify(error_body(error.status, error.reason, str(error))), error.status

    @blueprint.app_errorhandler(HTTPException)
    def http(error: HTTPException) -> Any:
        code = error.code or 500
        return jsonify(error_body(code, error.name.upper().replace(" ", "_"), str(error.description))), code

    return blueprint
