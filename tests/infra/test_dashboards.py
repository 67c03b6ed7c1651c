"""Dashboards and alert rules: Prometheus parses every query, and every metric in them is one that somebody exposes."""

import json
import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
import yaml
from prometheus_client import CollectorRegistry

from infra.addons.monitoring import DASHBOARDS, monitors, rules
from infra.base import Site
from infra.settings import of_stack
from serving.metrics import ServerMetrics
from serving.rollout.gauges import Gauges

FILES = sorted(DASHBOARDS.glob("*.json"))
TABLE = yaml.safe_load((Path(__file__).parent / "metrics.yaml").read_text())
WORDS = frozenset(
    re.findall(
        r"\w+",
        "by on and or unless ignoring group_left group_right sum rate increase count avg max min time absent "
        "histogram_quantile bool",
    )
)
needs_promtool = pytest.mark.skipif(not which("promtool"), reason="promtool is not on PATH")


def alerts(env="prod"):
    (rule,) = rules(Site(of_stack(env), None, None))
    return rule["spec"]["groups"]


def queries():
    """(where, PromQL) of all panels and alerts; Grafana's variables stand for everything."""
    found = [
        (f"{file.stem}: {panel['title']}", target["expr"])
        for file in FILES
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    found += [(rule["alert"], rule["expr"]) for group in alerts() for rule in group["rules"]]
    return [(where, re.sub(r"\$\w+", ".*", expr)) for where, expr in found]


def metrics(expr):
    """Names of metrics in a query: what is neither a label, nor a text, nor a word of the language."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"", " ", expr)
    bare = re.sub(r"\b(by|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return {name for name in re.findall(r"\b[a-z_][a-z0-9_]*\b", re.sub(r"\[[^]]*\]", " ", bare)) if name not in WORDS}


def ours():
    registry = CollectorRegistry()
    ServerMetrics(registry)
    registry.register(Gauges())
    names = set()
    for family in registry.collect():
        kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
        names |= {family.name + suffix for suffix in kinds[family.type]}
    return names


def test_every_metric_is_exposed_by_somebody():
    known = ours() | {name for listed in TABLE.values() for name in listed}
    unknown = {(where, name) for where, expr in queries() for name in metrics(expr) - known}
    assert not unknown
    asked = {name for _, expr in queries() for name in metrics(expr)}
    assert len(asked) > 30 and {"seaway_release_log_e", "istio_requests_total"} <= asked
    assert {name for listed in TABLE.values() for name in listed} <= asked  # nor does the table keep what is not used


@needs_promtool
def test_prometheus_takes_every_query_and_rule(tmp_path):
    made = [{"record": f"asked:query_{i}", "expr": expr} for i, (_, expr) in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [*alerts(), {"name": "panels", "rules": made}]}))
    said = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(queries()) + sum(len(g['rules']) for g in alerts())} rules found" in said.stdout


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "series", "fires"),
    [
        ("ReleaseControllerGone", {'up{namespace="seaway-system",pod="seaway-controller-1"}': "1x30"}, False),
        ("ReleaseControllerGone", {'up{namespace="seaway-system",pod="seaway-controller-1"}': "0x30"}, True),
        ("ReleaseControllerGone", {'up{namespace="other",pod="other"}': "1x30"}, True),
        ("ReleaseControllerStuck", {"seaway_controller_seen_timestamp_seconds": "0x30"}, True),
        ("ReleaseControllerStuck", {"seaway_controller_seen_timestamp_seconds": "0+60x30"}, False),
        (
            "ReleaseAtCap",
            {
                'seaway_release_left_seconds{release="a"}': "0x30",
                'seaway_release_phase{release="a",phase="running"}': "1x30",
            },
            True,
        ),
        (
            "ReleaseAtCap",
            {
                'seaway_release_left_seconds{release="a"}': "9x30",
                'seaway_release_phase{release="a",phase="running"}': "1x30",
            },
            False,
        ),
        ("OnlineStoreDown", {'redis_up{namespace="features"}': "0x30"}, True),
        ("OnlineStoreDown", {'redis_up{namespace="features"}': "1x30"}, False),
        (
            "ScrapeMissing",
            {'kube_pod_status_ready{namespace="serving-prod",condition="true",pod="a"}': "1x30"},
            True,
        ),
        (
            "ScrapeMissing",
            {
                'kube_pod_status_ready{namespace="serving-prod",condition="true",pod="a"}': "1x30",
                'up{namespace="serving-prod",pod="a"}': "1x30",
            },
            False,
        ),
        (
            "QuotaNearlyUsed",
            {
                'kube_resourcequota{namespace="training",resource="pods",type="used"}': "95x30",
                'kube_resourcequota{namespace="training",resource="pods",type="hard"}': "100x30",
            },
            True,
        ),
    ],
)
def test_an_alert_fires_when_it_should(tmp_path, alert, series, fires):
    """In Prometheus' own reckoning, half an hour of samples."""
    rules_file, test_file = tmp_path / "rules.yaml", tmp_path / "test.yaml"
    rules_file.write_text(yaml.safe_dump({"groups": alerts()}))
    asked = {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})', "eval_time": "29m"}
    asked["exp_samples"] = [{"labels": "{}", "value": 1}] if fires else []
    case = {"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series.items()]}
    case["promql_expr_test"] = [asked]
    test_file.write_text(yaml.safe_dump({"rule_files": [str(rules_file)], "tests": [case]}))
    said = subprocess.run(["promtool", "test", "rules", str(test_file)], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_says_what_is_wrong_and_whom_to_call():
    for group in alerts():
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket") and len(rule["annotations"]["summary"]) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_dashboard_is_whole(file):
    board = json.loads(file.read_text())
    assert board["uid"] == f"seaway-{file.stem}" and board["panels"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(places)) == len(places)


def test_pods_of_models_and_of_the_gateway_are_scraped_with_what_the_evidence_needs(env):
    """Prometheus' operator puts `pod` and `namespace` on what a PodMonitor scrapes; nothing of ours takes them off."""
    listed = {m["metadata"]["name"]: m["spec"] for m in monitors(Site(of_stack(env), None, None))}
    assert listed["models"]["namespaceSelector"]["matchNames"] == list(of_stack(env).tenancy.serving)
    assert listed["gateway"]["podMetricsEndpoints"][0]["path"] == "/stats/prometheus"
    for spec in listed.values():
        (endpoint,) = spec["podMetricsEndpoints"]
        assert not {"relabelings", "metricRelabelings", "honorLabels"} & set(endpoint)
