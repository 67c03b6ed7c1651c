"""Accelerators: the plugin that counts them, and the queue for what asks for one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from infra.addons.operators import Operator
from infra.base import Part, Site, manifests


class Scheduling(Operator):
    """Only made where the settings have a pool of accelerators."""

    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        gpu, quota = site.gpu, site.tenancy.quotas[site.tenancy.training]
        charts = [*(["nvidia-device-plugin"] if gpu.device_plugin else []), "kueue"]
        more = {"nvidia-device-plugin": {"nodeSelector": dict(gpu.node_labels)}}
        super().__init__("Scheduling", site, after, charts, more)
        words = {
            "flavor": gpu.flavor,
            "labels": json.dumps(gpu.node_labels),
            "queue": gpu.queue,
            "training": site.tenancy.training,
            "cpu": quota.cpu,
            "memory": quota.memory,
            "count": str(gpu.count),
        }
        made = list(self.ready)
        for manifest in manifests("queue", **words):
            made.append(self.apply(manifest, after=made))
        self.done()
