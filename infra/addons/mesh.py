"""Istio without sidecars: the gateway that callers come through, and whose counters releases are judged by."""

from __future__ import annotations

from collections.abc import Sequence

from infra.addons.operators import Operator
from infra.base import Part, Site, manifests


class Mesh(Operator):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Mesh", site, after, ["istio-base", "istiod", "istio-ingressgateway"])
        (gateway,) = manifests("mesh", host=site.gateway.host)
        if site.gateway.tls_secret:
            (plain,) = gateway["spec"]["servers"]
            tls = {"mode": "SIMPLE", "credentialName": site.gateway.tls_secret, "minProtocolVersion": "TLSV1_2"}
            secure = {
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": plain["hosts"],
                "tls": tls,
            }
            gateway["spec"]["servers"] = [{**plain, "tls": {"httpsRedirect": True}}, secure]
        self.apply(gateway, after=list(self.ready))
        self.done()
