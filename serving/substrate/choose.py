"""The substrate that the configuration names."""

from __future__ import annotations

from seaway.config import Config, duration
from serving.substrate.base import Substrate


def substrate_of(config: Config) -> Substrate:
    """Made, not started: nothing is asked or run before the first call."""
    serving = config.serving
    if serving.substrate == "local":
        from serving.substrate.local import LocalSubstrate

        return LocalSubstrate(config.home, timeout_ms=serving.timeout_ms)
    from seaway.kube_api import Api
    from serving.signals.prometheus import WINDOW, Prometheus
    from serving.substrate.kubernetes import KubernetesSubstrate

    scrape = int(duration(serving.scrape).total_seconds())
    signals = None
    if serving.prometheus:
        signals = Prometheus(serving.prometheus, gateway=serving.gateway, window=max(WINDOW, 4 * scrape))
    return KubernetesSubstrate(Api(serving.context), serving.namespace, signals=signals, url=serving.url)
