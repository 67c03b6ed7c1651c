"""What the API server itself refuses in users' namespaces, whoever asks: manifests/admission.yaml."""

from __future__ import annotations

from collections.abc import Sequence

from infra.base import Part, Site, manifests
from infra.tenancy import WORKLOAD

GROUP = "admissionregistration.k8s.io/v1"


class Admission(Part):
    def __init__(self, site: Site, after: Sequence[Part] = ()) -> None:
        super().__init__("Admission", site, after)
        for policy in manifests("admission"):
            made = self.apply(policy)
            meta = {"name": policy["metadata"]["name"]}
            where = {"namespaceSelector": {"matchLabels": WORKLOAD}}
            spec = {"policyName": meta["name"], "validationActions": ["Deny"], "matchResources": where}
            binding = {"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta, "spec": spec}
            self.apply(binding, after=[made])
        self.done()
