"""A Kubeflow Pipelines API for tests, in a thread: strict about every request, with runs that go through states.

Addresses, parameters, bodies and its own answers are checked against the client's contract; pipelines against
KFP's protocol buffers. What runs do follows the API server's source: nodes of an Argo workflow, drivers, no pods'
names, times of year 1 for what is not over, errors of the log's address with status 200. A run moves on by one
step of its plan each time it is read.
"""

import json
import ssl
import threading
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_contract import faults, in_query, operations, predicates

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}
FROM_CLIENT = {"display_name", "description", "experiment_id", "pipeline_spec", "runtime_config", "service_account"}


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def line(step, event, **fields):
    """A marked line as a step prints it."""
    return "@seaway " + json.dumps({"event": event, "step": step, **fields})


def words(step, outcome):
    """What a step's pod prints, by outcome: passes, is skipped, fails with a text, or dies without a word."""
    start = [f"launcher of {step}", line(step, "reason", reason="first run", skipped=outcome == "skip")]
    middle = [line(step, "progress", text="half way")]
    outputs = {"out": f"/minio/{step}/out"}
    status = "skipped" if outcome == "skip" else "done"
    end = line(step, "end", status=status, reason="first run", summary={"rows": 7}, seconds=1.5, outputs=outputs)
    fail = line(step, "fail", text=f"{step} cannot: a gate is shut", seconds=1.0)
    return "\n".join(start + middle), {"fail": fail, "die": "Killed"}.get(outcome, end)


def fnv(text):
    value = 2166136261
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) % 2**32
    return value


class Run:
    """One run. ``plan``: by step the outcomes of its attempts, the last one again and again.

    Outcomes: ok, skip (by Seaway's own cache), fail (with words), die (without), driver (no pod is made).
    """

    def __init__(self, body, plan):
        self.body, self.plan, self.id = body, plan, str(uuid.uuid4())
        self.state, self.ticks, self.retried, self.logs = "PENDING", 0, 0, {}
        self.spec = body["pipeline_spec"].get("pipeline_spec", body["pipeline_spec"])
        self.workflow = f"{self.spec['pipelineInfo']['name']}-x7k2p"
        self.steps = self._order()
        self.states = {}  # step -> pending | waiting | running | ok | failed | driver

    def _order(self):
        tasks, order = self.spec["root"]["dag"]["tasks"], []
        while len(order) < len(tasks):
            ready = [n for n, t in tasks.items() if set(t.get("dependentTasks", [])) <= {*order}]
            order += sorted(set(ready) - set(order))
        return order

    def template(self, step):
        task = self.spec["root"]["dag"]["tasks"][step]
        name = "system-container-impl" if "retryPolicy" not in task else "retry-system-container-impl"
        label = self.spec["components"][task["componentRef"]["name"]]["executorLabel"]
        platform = self.body["pipeline_spec"].get("platform_spec", {"platforms": {"kubernetes": {}}})
        executors = platform["platforms"]["kubernetes"].get("deploymentSpec", {}).get("executors", {})
        if meta := executors.get(label, {}).get("podMetadata"):
            name = f"metadata-{len(meta.get('annotations', {}))}-{len(meta.get('labels', {}))}-{name}"
        return name

    def tries(self, step):
        return int(self.spec["root"]["dag"]["tasks"][step].get("retryPolicy", {}).get("maxRetryCount", 0)) + 1

    def outcome(self, step, attempt):
        outcomes = self.plan.get(step, ["ok"])
        return outcomes[min(attempt + self.retried * self.tries(step), len(outcomes) - 1)]

    def pod(self, step, attempt):
        node = f"{self.workflow}.root.{step}.executor"
        if "retryPolicy" in self.spec["root"]["dag"]["tasks"][step]:
            node = f"{node}({attempt})"
        return f"{self.workflow}-{self.template(step)}-{fnv(node)}"

    def advance(self):
        """One step of the plan: driver, pod made, first words, and the end of each attempt."""
        self.ticks += 1
        if self.state in ("SUCCEEDED", "FAILED", "CANCELED"):
            return
        self.state = "RUNNING"
        step = next((s for s in self.steps if self.states.get(s, ("", 0))[0] != "ok"), None)
        if step is None:
            self.state = "SUCCEEDED"
            return
        state, attempt = self.states.get(step, ("", 0))
        outcome = self.outcome(step, attempt)
        if state == "":
            self.states[step] = ("driver" if outcome == "driver" else "waiting", 0)
        elif state == "waiting":
            self.logs[self.pod(step, attempt)] = words(step, outcome)[0][:-5]  # its last line is not whole yet
            self.states[step] = ("running", attempt)
        elif state == "running":
            self.logs[self.pod(step, attempt)] = "\n".join([*words(step, outcome), ""])
            if outcome in ("ok", "skip"):
                self.states[step] = ("ok", attempt)
            elif attempt + 1 < self.tries(step):
                self.states[step] = ("waiting", attempt + 1)
            else:
                self.states[step] = ("failed", attempt)
        else:
            self.state = "FAILED"

    def retry(self):
        """As Argo does: what has failed is forgotten, with its pods."""
        self.retried, self.state = self.retried + 1, "RUNNING"
        for step in [s for s, (state, _) in self.states.items() if state != "ok"]:
            del self.states[step]  # the old log stays, from the archive, until the new pod of that name speaks

    def record(self):
        body = {k: v for k, v in self.body.items() if v is not None}
        details = {"task_details": self._tasks()} if self.states else None
        times = {"created_at": "2026-01-01T00:00:00Z", "scheduled_at": "2026-01-01T00:00:00Z", "finished_at": NEVER}
        record = {**body, "run_id": self.id, "state": self.state, "storage_state": "AVAILABLE", **times}
        return record | ({"run_details": details} if details else {})

    def _tasks(self):
        tasks = [self._task(self.workflow, self.state), self._task("root-driver", "SUCCEEDED")]
        tasks.append(self._task("root", self.state))
        for n, step in enumerate(self.steps):
            state, attempt = self.states.get(step, ("", 0))
            if state in ("", "driver") and self.state != "FAILED" and step not in self.states:
                continue
            if state in ("", "driver"):  # what follows a failure is listed, without a state
                tasks += [self._task(f"{step}-driver", "FAILED" if state else None, n), self._task(step, None, n)]
                continue
            tasks.append(self._task(f"{step}-driver", "SUCCEEDED", n))
            known = {"ok": "SUCCEEDED", "failed": "FAILED"}.get(state, "RUNNING")
            nodes = [f"{self.workflow}.root.{step}.executor", f"{self.workflow}.root.{step}-next-driver"]
            tasks.append(self._task(step, known, n, [{"pod_name": f"{self.workflow}-{fnv(node)}"} for node in nodes]))
            attempts = range(attempt + 1) if self.tries(step) > 1 else ()
            names = ["executor", *(f"executor({n})" for n in attempts)]
            tasks += [self._task(name, "PENDING" if state == "waiting" else known, n) for name in names]
        return sorted(tasks, key=lambda task: task["task_id"])

    def _task(self, name, state, n=0, children=()):
        began = START + timedelta(seconds=10 * n)
        over = state in ("SUCCEEDED", "FAILED", None)
        return {
            "run_id": self.id, "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.id}{name}{n}")),
            "display_name": name, "create_time": START.isoformat(), "start_time": began.isoformat(),
            "end_time": (began + timedelta(seconds=4)).isoformat() if over else NEVER,
            **({"state": state} if state else {}), **({"child_tasks": list(children)} if children else {}),
        }  # fmt: skip


class Server:
    """``with Server() as server``: the API at ``server.url``. ``plan`` is that of the runs to come."""

    def __init__(self, *, token="", namespaces=("kubeflow",), tls=None):
        self.token, self.namespaces, self.plan = token, namespaces, {}
        self.experiments, self.runs, self.asked = {}, {}, []
        self.faults = []  # (operation, status, after): the next such request; after: it has its effect first
        self.logs_there = True
        self._operations, self._lock = operations(), threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    @property
    def run(self):
        """The newest run."""
        return list(self.runs.values())[-1]

    def answer(self, method, target, headers, data):
        """(status, JSON or text) of one request."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        with self._lock:
            try:
                if self.token and headers.get("authorization") != f"Bearer {self.token}":
                    raise Refused(401, "Request header error: there is no user identity")
                if parts.path.startswith("/apis/v1alpha1/"):
                    return 200, self._log(parts.path)
                return 200, self._call(method, parts.path, query, headers, data)
            except Refused as refused:
                text = str(refused)
                return refused.status, {"code": CODES.get(refused.status, 2), "message": text, "details": []}

    def _call(self, method, path, query, headers, data):
        fitting = [(o, m) for o in self._operations if o.method == method and (m := o.path.fullmatch(path))]
        if len(fitting) != 1:
            raise Refused(404, f"{method} {path} is no address of the API")
        operation, match = fitting[0]
        if unknown := set(query) - set(operation.query):
            raise Refused(400, f"{operation.name} has no parameters {unknown}")
        try:
            query = {name: in_query(text, operation.query[name]) for name, text in query.items()}
            body = json.loads(data) if data else None
        except (ValueError, KeyError) as error:
            raise Refused(400, f"{operation.name}: {error}") from None
        if (body is None) != (operation.body is None):
            raise Refused(400, f"{operation.name}: a body where none belongs, or none where one does")
        if body is not None:
            if not headers.get("content-type", "").startswith("application/json"):
                raise Refused(400, "the body must be JSON")
            if wrong := faults(body, operation.body):
                raise Refused(400, "; ".join(wrong))
        self.asked.append((operation.name, query, body))
        name = operation.name.split("_service_")[1]
        fault = next((f for f in self.faults if f[0] == name), None)
        if fault:
            self.faults.remove(fault)
            if not fault[2]:
                raise Refused(fault[1], "on purpose")
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            raise Refused(501, f"{operation.name} is not played here")
        result = handler(query=query, body=body, **match.groupdict())
        wrong = faults(json.loads(json.dumps(result)), operation.answer, "answer")
        assert not wrong, wrong  # the server itself must keep the contract
        if fault:
            raise Refused(fault[1], "on purpose, after the effect")
        return result

    def _named(self, records, query):
        try:
            wanted = predicates(query["filter"]) if query.get("filter") else ()
        except ValueError as error:
            raise Refused(400, str(error)) from None
        for key, value in wanted:
            if key != "display_name":
                raise Refused(400, f"no filter by {key}")
            records = [record for record in records if record["display_name"] == value]
        return records

    def _allowed(self, namespace):
        if namespace not in self.namespaces:
            raise Refused(403, f"User is not authorized to use experiments in namespace {namespace}")

    def _list_experiments(self, query, body):
        self._allowed(query.get("namespace"))
        found = self._named(list(self.experiments.values()), query)
        return {"experiments": found, "total_size": len(found)} if found else {}

    def _create_experiment(self, query, body):
        self._allowed(body.get("namespace"))
        if not body.get("display_name"):
            raise Refused(400, "Experiment name is empty")
        if any(e["display_name"] == body["display_name"] for e in self.experiments.values()):
            raise Refused(409, "already exists")
        made = body | {"experiment_id": str(uuid.uuid4()), "storage_state": "AVAILABLE"}
        self.experiments[made["experiment_id"]] = made
        return made

    def _create_run(self, query, body):
        if extra := set(body) - FROM_CLIENT:
            raise Refused(400, f"fields that the server sets: {extra}")
        if not body.get("display_name"):
            raise Refused(400, "The run name is empty. Please specify a valid name")
        if body.get("experiment_id") not in self.experiments:
            raise Refused(404, "no such experiment")
        check_pipeline(body["pipeline_spec"], body.get("runtime_config", {}).get("parameters", {}))
        run = Run(body, self.plan)
        self.runs[run.id] = run
        return run.record()

    def _get(self, run_id):
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        return self.runs[run_id]

    def _list_runs(self, query, body):
        records = [run.record() for run in self.runs.values()]
        found = [r for r in self._named(records, query) if r["experiment_id"] == query.get("experiment_id")]
        return {"runs": found, "total_size": len(found)} if found else {}

    def _get_run(self, query, body, run_id):
        run = self._get(run_id)
        run.advance()
        return run.record()

    def _retry_run(self, query, body, run_id):
        run = self._get(run_id)
        if run.state not in ("FAILED", "CANCELED"):
            raise Refused(400, "Failed to retry a run: it is not in a failed or error state")
        run.retry()
        return {}

    def _log(self, path):
        _, _, _, runs, run_id, nodes, pod, log = path.split("/")
        assert (runs, nodes, log) == ("runs", "nodes", "log"), path
        logs = self._get(run_id).logs if self.logs_there else {}
        if unquote(pod) not in logs:
            return '{"error_message":"failed to read logs","error_details":"..."}'
        return logs[unquote(pod)]

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer, written in two parts, waits 40 ms

            def _serve(self):
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, body = server.answer(self.command, self.path, headers, data)
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                self.send_header("content-type", "text/plain" if isinstance(body, str) else "application/json")
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, *_):
                pass

        return Handler


def check_pipeline(spec, parameters):
    """Refuse a pipeline that KFP's protocol buffers do not know, and parameters that it does not have."""
    if unknown := set(spec) - {"pipeline_spec", "platform_spec"}:
        raise Refused(400, f"pipeline_spec: {unknown}")
    try:
        pipeline = json_format.ParseDict(spec["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        platform = json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        for executor in platform.platforms["kubernetes"].deployment_spec.executors.values():
            config = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
            json_format.ParseDict(json_format.MessageToDict(executor), config)
    except json_format.ParseError as error:
        raise Refused(400, f"pipeline_spec: {error}") from None
    known = pipeline.root.input_definitions.parameters
    if set(parameters) - set(known):
        raise Refused(400, f"the pipeline has no parameters {set(parameters) - set(known)}")
    for name, definition in known.items():
        if name not in parameters and not definition.is_optional and not definition.HasField("default_value"):
            raise Refused(400, f"parameter {name} is missing")
        text = definition.parameter_type == pipeline_spec_pb2.ParameterType.STRING
        if name in parameters and text and not isinstance(parameters[name], str):
            raise Refused(400, f"parameter {name} must be a string")
