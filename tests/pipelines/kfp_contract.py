"""The Kubeflow Pipelines API's contract, read from its generated client: addresses, parameters, bodies and answers.

``kfp_server_api`` is generated from the API's OpenAPI description; that description itself is not in the package,
but every operation's method names its address, its query's parameters, its body's model and its answer's.
"""

import inspect
import json
import re
from dataclasses import dataclass
from datetime import datetime

import kfp_server_api

SERVICES = ("ExperimentServiceApi", "RunServiceApi", "HealthzServiceApi")
PLAIN = {"str": str, "bool": bool, "object": object, "float": (int, float)}


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: re.Pattern
    query: dict  # name -> type
    body: str | None  # a model's name
    answer: str


def operations():
    """Every operation of the services."""
    found = []
    for service in SERVICES:
        for name, method in inspect.getmembers(getattr(kfp_server_api, service), inspect.isfunction):
            if not name.endswith("_with_http_info"):
                continue
            source = inspect.getsource(method)
            path, verb = re.search(r"call_api\(\s*'([^']+)', '(\w+)'", source).groups()
            types = dict(re.findall(r":type (\w+): ([\w\[\]]+)", source))
            query = {q: types[q] for q in re.findall(r"query_params\.append\(\('(\w+)'", source)}
            body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
            answer = re.search(r"response_type='([^']*)'", source).group(1)
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(path))
            found.append(
                Operation(
                    name.removesuffix("_with_http_info"), verb, re.compile(pattern), query,
                    types[body.group(1)] if body else None, answer,
                )
            )  # fmt: skip
    return found


def faults(value, kind, where="body"):
    """What of a JSON value is not as the contract's type ``kind`` says; empty for a good one."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            return [f"{where}: not a list"]
        return [f for n, item in enumerate(value) for f in faults(item, inner[1], f"{where}[{n}]")]
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            return [f"{where}: not an object"]
        return [f for key, item in value.items() for f in faults(item, inner[1], f"{where}.{key}")]
    if kind == "int":
        return [] if isinstance(value, int) and not isinstance(value, bool) else [f"{where}: not a whole number"]
    if kind == "datetime":
        try:
            datetime.fromisoformat(value)
        except (TypeError, ValueError):
            return [f"{where}: not a time"]
        return []
    if kind in PLAIN:
        return [] if isinstance(value, PLAIN[kind]) else [f"{where}: not of type {kind}"]
    model = getattr(kfp_server_api, kind)
    if values := getattr(model, "allowable_values", None):
        return [] if value in values else [f"{where}: {value!r} is none of {values}"]
    if not isinstance(value, dict):
        return [f"{where}: not an object"]
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    unknown = [f"{where}.{key}: no field of {kind}" for key in value if key not in types]
    return unknown + [f for key, v in value.items() if key in types for f in faults(v, types[key], f"{where}.{key}")]


def in_query(text, kind):
    """A query's value as its type; ValueError for one that is not."""
    if kind == "int":
        return int(text)
    if kind == "bool":
        return {"true": True, "false": False}[text]
    return text


def predicates(text):
    """The (key, value) pairs of a filter of equalities; ValueError for one that is not of the contract."""
    record = json.loads(text)
    wrong = faults(record, "V2beta1Filter", "filter")
    if wrong or any(p["operation"] != "EQUALS" for p in record["predicates"]):
        raise ValueError(f"filter: {wrong or 'only EQUALS is understood here'}")
    return [(p["key"], p["string_value"]) for p in record["predicates"]]
