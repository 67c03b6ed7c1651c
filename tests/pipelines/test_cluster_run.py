"""The pipeline on Kubeflow Pipelines, against a server that is as strict as the API's contract."""

import json
import ssl
import subprocess
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest
from kfp_contract import faults, operations
from kfp_server import Refused as RefusedByServer
from kfp_server import Server, check_pipeline

from components.steps import STEPS
from pipelines import cluster
from pipelines import follow as following
from pipelines.cluster import KubeflowRunner, Left, go_on, submit
from pipelines.compile import cluster_pipeline, compiled
from pipelines.kfp_tasks import _fnv, _pods
from pipelines.pods import pod_config
from pipelines.progress import Terminal
from seaway.artifacts import read_json
from seaway.cli.main import main
from seaway.config import Config, load
from seaway.errors import SeawayError


@pytest.fixture
def server():
    with Server() as running:
        yield running


def config_of(server, home, **pipeline):
    settings = {"host": server.url, "ui": "https://kubeflow.example/pipeline", "image": "registry.example/train:7"}
    return load(
        overrides={
            "home": str(home),
            "pipeline": settings | pipeline,
            "storage": {"uri": "s3://bucket/seaway", "secret": "storage"},
            "tracking_uri": "http://mlflow.tracking:5000",
            "online_store": {"type": "redis", "connection": "redis.features:6379"},
        }
    )


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Compiles once for all tests but those of what is handed in: a second each."""
    monkeypatch.setattr(cluster, "publish_pipeline", lambda config, data: _KEPT.append(data))  # asks nobody's storage
    if request.node.name == "test_what_is_handed_in":
        return

    def taken(config, pipeline):
        key = config.pipeline.retries
        if key not in _COMPILED:
            _COMPILED[key] = compiled(config, cluster_pipeline(config))
        return replace(_COMPILED[key], config=pod_config(config))

    monkeypatch.setattr(cluster, "compiled", taken)
    monkeypatch.setattr(cluster, "cluster_pipeline", lambda config: None)


_COMPILED, _KEPT = {}, []


class Clock:
    """Time that passes only in pauses; ``at`` a given pause something happens."""

    def __init__(self):
        self.now, self.pauses, self.at = 0.0, 0, {}

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds
        self.pauses += 1
        if act := self.at.get(self.pauses):
            act()


def go(call, config, *arguments, clock=None, **more):
    """(record or error, lines at the terminal, events) of a run."""
    clock, events = clock or Clock(), []
    try:
        runner = KubeflowRunner(config, clock=clock, pause=clock.pause)
        result = call(config, *arguments, on_event=events.append, runner=runner, **more)
    except (SeawayError, KeyboardInterrupt) as error:
        result = error
    terminal = Terminal()
    return result, [text for text in map(terminal.line, events) if text], events


def kinds(events, step):
    return [e["event"] for e in events if e.get("step") == step]


def test_a_run_is_handed_in_followed_and_recorded(server, tmp_path):
    config = config_of(server, tmp_path)
    server.plan = {"validate": ["skip"]}
    record, lines, events = go(submit, config)
    assert record["status"] == "passed"
    assert {s["name"]: s["status"] for s in record["steps"]}["validate"] == "skipped"
    assert {s["name"] for s in record["steps"]} == set(STEPS) - {"score"}
    assert kinds(events, "train") == ["reason", "progress", "end"], "each line once, in order, though read many times"
    assert record["cluster"]["page"] == f"https://kubeflow.example/pipeline/#/runs/details/{server.run.id}"
    assert any(record["cluster"]["page"] in line for line in lines)
    assert read_json(tmp_path / "runs" / record["run"] / "run.json") == json.loads(json.dumps(record))
    assert "half way" in next((tmp_path / "runs" / record["run"] / "logs").glob("*")).read_text()
    assert record["outputs"] == {}, "a pod's paths mean nothing here"


def test_what_is_handed_in(server, tmp_path):
    config = config_of(server, tmp_path, spot=True, queue="gpu", retries=2, resources={"train": {"gpu": 1}})
    record, _, events = go(submit, config)
    assert "progress" in kinds(events, "train"), "pods with labels and retries have other names"
    asked = {name.split("_service_")[1]: body for name, _, body in server.asked}
    assert asked["create_experiment"] == {
        "display_name": "seaway", "namespace": "kubeflow", "description": "Runs of `seaway run`",
    }  # fmt: skip
    body = asked["create_run"]
    assert body["service_account"] == "pipeline-runner"
    parameters = body["runtime_config"]["parameters"]
    assert parameters["run"] == record["run"]
    pods = Config.model_validate_json(parameters["config"])
    assert (str(pods.home), str(pods.workload_file)) == ("/home/seaway", "/app/config/workload.yaml")
    assert str(tmp_path) not in json.dumps(body), "no path of this machine"
    assert pods.pipeline.digest == record["cluster"]["pipeline"] == sha256(_KEPT[-1]).hexdigest()
    go(submit, config)
    assert [name for name, *_ in server.asked].count("experiment_service_create_experiment") == 1


def test_a_failed_step_is_named_with_its_words_and_resumed(server, tmp_path):
    config = config_of(server, tmp_path)
    server.plan = {"train": ["fail", "ok"]}
    error, _, events = go(submit, config)
    run = max((tmp_path / "runs").iterdir())
    assert "step train failed: train cannot: a gate is shut" in str(error)
    assert f"seaway run --env local --resume {run.name}" in str(error)
    assert read_json(run / "run.json")["status"] == "failed"
    assert kinds(events, "evaluate") == [], "what comes after it is not told"

    record, lines, events = go(go_on, config, "", resume=True)
    assert record["status"] == "passed"
    assert record["run"] == run.name
    assert [s["status"] for s in record["steps"]] == ["done"] * len(record["steps"])
    assert record["steps"][0]["summary"] == {"rows": 7}, "what is known of finished steps stays"
    assert kinds(events, "ingest") == [], "and is not told again"
    assert kinds(events, "train") == ["reason", "progress", "end"], "the words of the failed try are not told again"
    assert len(server.runs) == 1
    assert "goes on" in lines[0]

    error, *_ = go(go_on, config, run.name, resume=True)
    assert "nothing to resume" in str(error)


def test_attempts_that_the_cluster_makes_itself(server, tmp_path):
    config = config_of(server, tmp_path, retries=1)
    server.plan = {"tune": ["die", "ok"], "train": ["fail"]}
    error, _, events = go(submit, config)
    assert kinds(events, "tune") == ["reason", "progress", "reason", "progress", "end"]
    assert kinds(events, "train") == ["reason", "progress", "fail"] * 2
    assert "step train failed" in str(error)


@pytest.mark.parametrize(
    ("outcome", "words"), [("die", "no word of why"), ("driver", "its pod could not be made")]
)  # fmt: skip
def test_a_step_that_ends_without_a_word(server, tmp_path, outcome, words):
    server.plan = {"features": [outcome]}
    error, *_ = go(submit, config_of(server, tmp_path))
    assert f"step features failed: {words}" in str(error)


def test_without_logs_the_states_are_told(server, tmp_path):
    server.logs_there = False
    record, lines, events = go(submit, config_of(server, tmp_path, poll="90s"))
    assert record["status"] == "passed"
    assert {s["seconds"] for s in record["steps"]} == {4.0}
    assert kinds(events, "train") == ["reason", "end"]
    assert sum("train: not a word yet" in line for line in lines) == 1


def test_who_stops_following_leaves_the_run_and_comes_back(server, tmp_path):
    config, clock = config_of(server, tmp_path), Clock()

    def stop():
        raise KeyboardInterrupt

    clock.at = {8: stop}
    left, *_ = go(submit, config, clock=clock)
    run = max((tmp_path / "runs").iterdir())
    assert isinstance(left, Left)
    assert f"seaway run --env local --follow {run.name}" in str(left)
    assert read_json(run / "run.json")["status"] == "running"
    record, *_ = go(go_on, config, run.name, resume=False)
    assert record["status"] == "passed"
    assert {s["name"] for s in record["steps"]} == set(STEPS) - {"score"}
    assert not [name for name, *_ in server.asked if "terminate" in name or "retry" in name]


def test_a_run_that_was_handed_in_elsewhere(server, tmp_path):
    go(submit, config_of(server, tmp_path / "there"))
    config = config_of(server, tmp_path / "here")
    record, *_ = go(go_on, config, server.run.id, resume=False)
    assert record["status"] == "passed"
    assert record["cluster"]["run_id"] == server.run.id
    error, *_ = go(go_on, config, "20240101-000000", resume=False)
    assert "no run 20240101-000000" in str(error)
    error, *_ = go(go_on, config, "00000000-0000-0000-0000-000000000000", resume=False)
    assert "(404)" in str(error)


def test_a_lost_answer_makes_no_second_run(server, tmp_path):
    server.faults = [("create_run", 503, True)]
    record, *_ = go(submit, config_of(server, tmp_path))
    assert record["status"] == "passed"
    assert len(server.runs) == 1
    server.faults = [("create_run", 503, False)]
    error, *_ = go(submit, config_of(server, tmp_path))
    assert "refused to start a run (503)" in str(error)
    assert "Whether the run arrived is not known" in str(error) and "--follow" in str(error)
    assert len(server.runs) == 1


def test_two_who_make_the_experiment_at_once(server, tmp_path):
    server.faults = [("create_experiment", 409, False)]
    other = server._create_experiment
    listed = server._list_experiments

    def late(query, body):
        answer = listed(query, body)
        if not server.experiments:  # the other one makes it after this look
            other({}, {"display_name": "seaway", "namespace": "kubeflow"})
        return answer

    server._list_experiments = late
    record, *_ = go(submit, config_of(server, tmp_path))
    assert record["status"] == "passed"
    assert len(server.experiments) == 1


def test_an_api_that_is_silent_for_a_while(server, tmp_path):
    server.faults = [("get_run", 503, False)] * 5
    record, lines, _ = go(submit, config_of(server, tmp_path))
    assert record["status"] == "passed"
    assert sum("asking again" in line for line in lines) == 1
    server.faults = [("get_run", 502, False)] * 500
    error, *_ = go(submit, config_of(server, tmp_path))
    assert "(502)" in str(error)
    assert "The run on the cluster is not touched: `seaway run --env local --follow" in str(error)
    assert 500 - len(server.faults) >= following.PATIENCE / 5


def test_a_run_that_takes_too_long_and_one_that_is_cancelled(server, tmp_path):
    error, *_ = go(submit, config_of(server, tmp_path, timeout="30s"))
    assert "pipeline.timeout (30s)" in str(error)
    assert "--follow" in str(error)
    config, clock = config_of(server, tmp_path), Clock()
    clock.at = {5: lambda: setattr(server.run, "state", "CANCELED")}
    error, *_ = go(submit, config, clock=clock)
    assert "was cancelled on the cluster; `seaway run --env local --resume" in str(error)
    assert go(go_on, config, "", resume=True)[0]["status"] == "passed"


def test_whom_the_api_does_not_let_in(tmp_path):
    token = tmp_path / "token"
    with Server(token="right", namespaces=("team",)) as server:
        config = config_of(server, tmp_path)
        assert "(401)" in str(go(submit, config)[0])
        token.write_text("wrong\n")
        with_token = config_of(server, tmp_path, token_file=str(token))
        assert "pipeline.token_file" in str(go(submit, with_token)[0])
        token.write_text("right\n")
        error, *_ = go(submit, with_token)
        assert "(403)" in str(error)
        assert "namespace kubeflow" in str(error)
        config = config_of(server, tmp_path, token_file=str(token), namespace="team")
        clock = Clock()
        clock.at = {3: lambda: (setattr(server, "token", "renewed"), token.write_text("renewed"))}
        assert go(submit, config, clock=clock)[0]["status"] == "passed", "a token is read anew at each request"
        for text in ("", "two words"):
            token.write_text(text)
            assert "holds no token" in str(go(submit, config)[0])
        token.unlink()
        assert "cannot be read" in str(go(submit, config)[0])


def test_addresses_that_are_none(server, tmp_path):
    error, *_ = go(submit, config_of(server, tmp_path, host="http://localhost:9"))
    assert "does not answer" in str(error)
    assert "port-forward" in str(error)
    error, *_ = go(submit, config_of(server, tmp_path, host=f"{server.url}/elsewhere"))
    assert "(404)" in str(error)
    error, *_ = go(submit, config_of(server, tmp_path, host="ml-pipeline:8888"))
    assert "must begin with https" in str(error)
    server.answer = lambda *_: (200, "<html>please log in</html>")
    error, *_ = go(submit, config_of(server, tmp_path))
    assert "did not answer like the Kubeflow Pipelines API" in str(error)
    server.answer = lambda *_: (302, "")
    assert "to log in" in str(go(submit, config_of(server, tmp_path))[0])


def test_certificates(tmp_path):
    pem, key = tmp_path / "pem", tmp_path / "key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", pem, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    assert ssl.create_default_context(cafile=pem)
    with Server(tls=(pem, key)) as server:
        error, *_ = go(submit, config_of(server, tmp_path))
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert "pipeline.ca_file" in str(error)
        record, *_ = go(submit, config_of(server, tmp_path, ca_file=str(pem)))
        assert record["status"] == "passed"
        error, *_ = go(submit, config_of(server, tmp_path, ca_file=str(tmp_path / "none")))
        assert "is not there" in str(error)


def test_pods_that_would_share_files_are_refused_before_anything_is_asked(server, tmp_path):
    config = load(overrides={"home": str(tmp_path), "pipeline": {"host": server.url}})
    error, *_ = go(submit, config)
    assert all(key in str(error) for key in ("storage.uri", "tracking_uri", "online_store.type"))
    assert server.asked == []


def test_places_of_this_machine_are_refused(server, tmp_path, small):
    source = {"workload": {"sources": {"transactions": {"path": "/data/events.csv"}}}}
    config = config_of(server, tmp_path)
    data = config.workload.sources["transactions"].model_copy(update=source["workload"]["sources"]["transactions"])
    workload = config.workload.model_copy(update={"sources": {"transactions": data}})
    error, *_ = go(submit, config.model_copy(update={"workload": workload}))
    assert "workload.sources.transactions.path is /data/events.csv" in str(error)
    outside = small.write_workload(tmp_path / "outside")
    error, *_ = go(submit, config.model_copy(update={"workload_file": outside}))
    assert "the pods' image lacks it" in str(error)
    assert server.asked == []


def test_pods_names_as_real_clusters_have_given_them():
    assert [_fnv(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]  # FNV's own examples
    executor = "iris-training-pipeline-kc78z.root.create-dataset.executor"  # Kubeflow Pipelines 2.2
    assert _fnv(executor) == 1257429848
    children = [SimpleNamespace(pod_name="general-cpu-rnggt-807657059")]  # 2.16, a task with retries
    group = SimpleNamespace(display_name="workspace-name", child_tasks=children)
    templates = {"workspace-name": ("retry-system-container-impl", 1)}
    assert _pods(group, templates)[0] == "general-cpu-rnggt-retry-system-container-impl-1467617326"
    children[0].pod_name = "general-cpu-rnggt-807657050"
    assert _pods(group, templates) == (), "no pod is named by guess"


def test_the_server_is_as_strict_as_the_contract(server):
    def ask(method, target, body=None, kind="application/json"):
        data = json.dumps(body).encode() if body is not None else b""
        return server.answer(method, target, {"content-type": kind}, data)[0]

    experiments, runs = "/apis/v2beta1/experiments", "/apis/v2beta1/runs"
    good = {"display_name": "a", "namespace": "kubeflow"}
    assert ask("POST", experiments, good) == 200
    assert ask("POST", experiments, good | {"display_nam": "b"}) == 400
    assert ask("POST", experiments, good | {"display_name": 1}) == 400
    assert ask("POST", experiments, good, kind="text/plain") == 400
    assert ask("POST", experiments) == 400
    assert ask("GET", f"{experiments}?namespace=kubeflow&page_size=x") == 400
    assert ask("GET", f"{experiments}?namespace=kubeflow&page=1") == 400
    assert ask("GET", f'{experiments}?namespace=kubeflow&filter={{"predicates":[{{"op":"EQUALS"}}]}}') == 400
    assert ask("PUT", experiments, good) == 404
    assert ask("POST", runs, {"display_name": "a", "state": "RUNNING"}) == 400
    assert faults({"state": "DONE"}, "V2beta1Run") == [
        f"body.state: 'DONE' is none of {__import__('kfp_server_api').V2beta1RuntimeState.allowable_values}"
    ]
    with pytest.raises(RefusedByServer):
        check_pipeline({"pipeline_spec": {"rooot": {}}, "platform_spec": {}}, {})
    assert len(operations()) >= 15


def test_the_verb(server, tmp_path, capsys):
    server.plan = {"train": ["fail", "ok"]}
    settings = [
        f"pipeline.host={server.url}", "pipeline.poll=0s", "storage.uri=s3://bucket/seaway",
        "tracking_uri=http://mlflow:5000", "online_store.type=redis", "infrastructure.stack=organization/seaway/test",
    ]  # fmt: skip
    arguments = ["run", "--home", str(tmp_path), *(part for text in settings for part in ("--set", text))]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "step train failed: train cannot" in said.err
    assert "train     failed" in said.out
    assert main([*arguments, "--resume"]) == 0
    said = capsys.readouterr()
    assert "passed in" in said.out
    assert main([*arguments, "--follow", server.run.id]) == 0
