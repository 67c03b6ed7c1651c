"""Starts Seldon's microservice for a model class: ``python -m serving.microservice [CLASS] [options]``.

The same for a laptop and for the image. Around Seldon's own program it sets what that has no option for:
the address to bind (it always takes all), worker timeouts, a Prometheus page without a lock between
processes, and that every process it forks dies with its parent.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from typing import Any

from seaway.processes import die_with_parent

BIND = "SEAWAY_BIND"  # address of both servers; the substrate on one machine sets loopback
_DEFAULTS = {
    "GUNICORN_WORKERS": "1",  # more replicas rather than more workers: the proxy sees each of them
    "GUNICORN_THREADS": "8",  # a slow caller must not hold the others
    "GUNICORN_KEEPALIVE": "75",  # longer than the proxy's idle timeout, so that the proxy closes first
    "GRPC_WORKERS": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM; in-flight requests are answered first."""
    _forks_die_with_us()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, os.environ.get("MODEL_NAME", "serving.model_server.ModelServer"))
    # prometheus_client reads the folder when it is first imported
    folder = os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="seaway-metrics-"))
    owner, code = os.getpid(), 1
    try:
        _run(arguments, folder)
        code = 0
    except SystemExit as stop:
        if os.getpid() != owner:
            raise
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
    # every request is answered: the metrics page and the counters' process need no second of grace each
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _forks_die_with_us() -> None:
    parent: list[int] = [0]

    def before() -> None:
        parent[0] = os.getpid()

    os.register_at_fork(before=before, after_in_child=lambda: die_with_parent(parent[0], signal.SIGKILL))


def _run(arguments: list[str], folder: str) -> None:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
    from seldon_core import gunicorn_utils, microservice
    from seldon_core.metrics import SeldonMetrics

    class Metrics(SeldonMetrics):
        """Seldon's metrics and, on the same page, those that the model class counts with prometheus_client."""

        def update(self, custom_metrics: list[dict[str, Any]], method: str) -> None:
            if custom_metrics:  # Seldon crosses processes six times even for none: 0.2 ms a request
                super().update(custom_metrics, method)

        def generate_metrics(self) -> tuple[str, str]:
            text, kind = super().generate_metrics()
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=folder)
            return text + generate_latest(registry).decode(), kind

    load_config = gunicorn_utils.StandaloneApplication.load_config

    def bound(application: Any) -> None:
        load_config(application)
        host, port = os.environ.get(BIND, "0.0.0.0"), application.options["bind"].rsplit(":", 1)[1]  # noqa: S104
        application.cfg.set("bind", f"{host}:{port}")
        application.cfg.set("timeout", 60)
        application.cfg.set("graceful_timeout", 10)
        if "control_socket_disable" in application.cfg.settings:  # one path a user, shared by all servers
            application.cfg.set("control_socket_disable", True)
        application.cfg.set("worker_tmp_dir", "/dev/shm" if os.path.isdir("/dev/shm") else None)  # noqa: S108

    microservice.SeldonMetrics = Metrics
    gunicorn_utils.StandaloneApplication.load_config = bound
    sys.argv = ["seldon-core-microservice", *arguments]
    microservice.main()


if __name__ == "__main__":
    main()
