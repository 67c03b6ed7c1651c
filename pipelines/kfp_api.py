"""The Kubeflow Pipelines API (v2beta1), through its generated client: a few calls, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from seaway.config import Pipeline
from seaway.errors import SeawayError

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, V2beta1Run

_SECONDS = (10, 60)  # to connect, to answer
_AUTHORIZATION = "authorization"


class ApiError(SeawayError):
    """``transient``: asked again, it may succeed. ``made``: it may have had its effect. ``status``: HTTP's, or 0."""

    def __init__(self, text: str, *, status: int = 0, transient: bool = False, made: bool = False) -> None:
        super().__init__(text)
        self.status, self.transient, self.made = status, transient, made


class PipelinesApi:
    """What Seaway asks of Kubeflow Pipelines. Every call raises ApiError when it is not answered as it should be."""

    def __init__(self, settings: Pipeline) -> None:
        """Nothing is asked yet; SeawayError for settings that cannot be used."""
        if not settings.host:
            raise SeawayError("pipeline.host is not set: give the address of the Kubeflow Pipelines API")
        if not settings.host.startswith(("http://", "https://")):
            raise SeawayError(f"pipeline.host {settings.host!r} must begin with https:// or http://")
        self._settings = settings
        self._client = self._connect()

    def page(self, run_id: str) -> str:
        """The address of the run's page."""
        base = (self._settings.ui or self._settings.host or "").rstrip("/")
        return f"{base}/#/runs/details/{run_id}"

    def experiment(self) -> str:
        """The id of the configured experiment, made if it is not there."""
        from kfp_server_api import ExperimentServiceApi, V2beta1Experiment

        api = ExperimentServiceApi(self._client)
        name, namespace = self._settings.experiment, self._settings.namespace

        def find() -> str:
            found = self._ask(
                lambda: api.experiment_service_list_experiments(
                    filter=_named(name), namespace=namespace, _request_timeout=_SECONDS
                ),
                f"list experiments of namespace {namespace}",
            )
            return found.experiments[0].experiment_id if found.experiments else ""

        if known := find():
            return known
        wanted = V2beta1Experiment(display_name=name, namespace=namespace, description="Runs of `seaway run`")
        try:
            made = self._ask(
                lambda: api.experiment_service_create_experiment(wanted, _request_timeout=_SECONDS),
                f"make the experiment {name} in namespace {namespace}",
            )
            return made.experiment_id
        except ApiError as error:
            if error.status == 409 and (known := find()):  # another process was quicker
                return known
            raise

    def submit(self, name: str, experiment: str, spec: dict[str, Any], parameters: dict[str, Any]) -> str:
        """Start a run and return its id. When the answer is lost, it is looked for by its ``name``, a unique one."""
        from kfp_server_api import RunServiceApi, V2beta1Run, V2beta1RuntimeConfig

        run = V2beta1Run(
            display_name=name,
            experiment_id=experiment,
            pipeline_spec=spec,
            runtime_config=V2beta1RuntimeConfig(parameters=parameters),
            service_account=self._settings.service_account,
        )
        try:
            api = RunServiceApi(self._client)
            made = self._ask(lambda: api.run_service_create_run(run, _request_timeout=_SECONDS), "start a run")
            return made.run_id
        except ApiError as error:
            if error.made:
                with suppress(ApiError):
                    if known := self.find(name, experiment):
                        return known
            raise

    def find(self, name: str, experiment: str) -> str:
        """The id of the run with this name; empty when there is none."""
        from kfp_server_api import RunServiceApi

        api = RunServiceApi(self._client)
        found = self._ask(
            lambda: api.run_service_list_runs(
                experiment_id=experiment, filter=_named(name), sort_by="created_at desc", _request_timeout=_SECONDS
            ),
            f"look for the run {name}",
        )
        return found.runs[0].run_id if found.runs else ""

    def run(self, run_id: str) -> V2beta1Run:
        """The run with its state and its tasks' states."""
        from kfp_server_api import RunServiceApi

        api = RunServiceApi(self._client)
        return self._ask(lambda: api.run_service_get_run(run_id, _request_timeout=_SECONDS), f"read the run {run_id}")

    def retry(self, run_id: str) -> None:
        """Let a failed run go on: its failed steps run again, finished ones do not."""
        from kfp_server_api import RunServiceApi

        api = RunServiceApi(self._client)
        self._ask(lambda: api.run_service_retry_run(run_id, _request_timeout=_SECONDS), f"let the run {run_id} go on")

    def log(self, run_id: str, pod: str) -> str:
        """What the pod has printed so far; empty when that cannot be had (its pod is not there yet, or is gone).

        This address is the server's own and not in its OpenAPI contract; with 200 it may tell an error in JSON.
        """

        def read() -> bytes:
            answer = self._client.call_api(
                "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log", "GET", {"run_id": run_id, "node_id": pod},
                auth_settings=["Bearer"], _preload_content=False, _return_http_data_only=True,
                _request_timeout=_SECONDS,
            )  # fmt: skip
            return answer.data

        try:
            text = self._ask(read, f"read the log of {pod}").decode(errors="replace")
        except ApiError:
            return ""
        return "" if text.startswith('{"error_message"') else text

    def _connect(self) -> ApiClient:
        from kfp_server_api import ApiClient, Configuration

        settings = self._settings
        made = Configuration(host=settings.host.rstrip("/"))
        made.retries = False  # neither hidden retries nor redirects to a page that asks a person to log in
        if settings.ca_file:
            if not settings.ca_file.expanduser().is_file():
                raise SeawayError(f"pipeline.ca_file {settings.ca_file} is not there: give a file of PEM certificates")
            made.ssl_ca_cert = str(settings.ca_file.expanduser())
        if settings.token_file:
            self._token(made)
            made.api_key_prefix[_AUTHORIZATION] = "Bearer"
            made.refresh_api_key_hook = self._token  # read at every request: projected tokens are renewed
        return ApiClient(made)

    def _token(self, configuration: Any) -> None:
        file = self._settings.token_file.expanduser()
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SeawayError(f"pipeline.token_file {file} cannot be read: {error}") from None
        if not token or not token.isprintable() or " " in token:
            raise SeawayError(f"pipeline.token_file {file} holds no token: one line is expected")
        configuration.api_key[_AUTHORIZATION] = token

    def _ask(self, call: Callable[[], Any], what: str) -> Any:
        import urllib3
        from kfp_server_api import ApiException
        from kfp_server_api.exceptions import ApiTypeError, ApiValueError

        try:
            answer = call()
        except ApiException as error:
            raise self._explained(error, what) from None
        except urllib3.exceptions.SSLError as error:
            raise self._explained(error, what) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            lost = isinstance(error, urllib3.exceptions.ProtocolError | urllib3.exceptions.ReadTimeoutError)
            raise ApiError(
                f"the Kubeflow Pipelines API at {self._settings.host} does not answer: {_short(error)}\n"
                "  Is pipeline.host right? From outside of the cluster: `kubectl -n kubeflow port-forward "
                "svc/ml-pipeline 8888` and pipeline.host=http://localhost:8888",
                transient=True,
                made=lost,
            ) from None
        except (ApiTypeError, ApiValueError, ValueError, AttributeError, TypeError) as error:
            if isinstance(error.__context__, ApiException):  # the client stumbles over a failure without a body
                raise self._explained(error.__context__, what) from None
            answer = error
        if answer is None or isinstance(answer, str | Exception):
            raise ApiError(
                f"{self._settings.host} did not answer like the Kubeflow Pipelines API (v2beta1) when asked to {what}: "
                "is pipeline.host the API's address, and is nothing in between that asks a person to log in?",
                made=True,
            ) from None
        return answer

    def _explained(self, error: Any, what: str) -> ApiError:
        status, host = int(getattr(error, "status", 0) or 0), self._settings.host
        said = _message(error)
        if not status:  # TLS: the client reports it without a status
            advice = "If no public authority has signed its certificate, name that authority's in pipeline.ca_file."
            return ApiError(f"there is no TLS connection to {host}: {_short(said)}\n  {advice}")
        head = f"the Kubeflow Pipelines API at {host} refused to {what} ({status}): {_short(said)}"
        advice = {
            401: "It does not know who asks: give a valid token in pipeline.token_file.",
            403: f"Whoever the token in pipeline.token_file stands for may not do this in namespace "
            f"{self._settings.namespace}: bind the role for pipelines, or correct pipeline.namespace.",
            404: "Is there such a run, and is pipeline.host the address of the API itself?",
        }.get(status, "")
        if 300 <= status < 400:
            advice = (
                "It sends callers elsewhere to log in: give a token in pipeline.token_file, or the API's own address."
            )
        transient = status == 429 or status >= 500
        return ApiError(f"{head}\n  {advice}".rstrip(), status=status, transient=transient, made=status >= 500)


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _message(error: Any) -> str:
    """What the server said, of its JSON the message."""
    body = getattr(error, "body", None)
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    with suppress(ValueError, TypeError):
        record = json.loads(body)
        if isinstance(record, dict):
            return str(record.get("message") or record.get("error_description") or record.get("error") or record)
    return str(getattr(error, "reason", "") or error)


def _short(said: Any) -> str:
    return " ".join(str(said).split())[:300]
