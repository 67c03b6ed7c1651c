"""The online store and Feast's server in front of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from infra.base import Part, Site, manifests
from infra.settings import Settings
from seaway.artifacts import record_hash
from seaway.config import load
from seaway.online import project_name

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Online(Part):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Online", site, after)
        config, redis, store = load(site.env), site.redis, []
        if not redis.host:
            words = {
                "image": site.versions.image("redis"),
                "exporter": site.versions.image("redis-exporter"),
                "append-only": "yes" if redis.append_only else "no",
                "bytes": str(size(redis.memory)),
                "memory": redis.memory,
                "limit": str(2 * size(redis.memory)),  # rewriting its file it may need as much again
                "storage": redis.storage,
            }
            for manifest in manifests("redis", **words, digest=record_hash(words)):
                store.append(self.apply(manifest, after=store, data=manifest["kind"] == "StatefulSet"))
        words = {
            "project": project_name(config.workload.name),
            "connection": connection(site.settings),
            "repository": config.workload.feature_repo.strip("/"),
            "image": config.pipeline.image,
            "replicas": str(site.availability.replicas),
        }
        for manifest in manifests("features", **words, digest=record_hash(words)):
            self.apply(manifest, after=store)
        self.budget("feature-server", "features")
        self.done()


def connection(settings: Settings) -> str:
    """As config/<env>.yaml names the store: "host:port[,ssl=true]"."""
    return (settings.redis.host or "redis.features:6379") + (",ssl=true" if settings.redis.tls else "")


def size(quantity: str) -> int:
    """Bytes."""
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", quantity).groups()
    return int(float(number) * _UNITS.get(unit, 1))
