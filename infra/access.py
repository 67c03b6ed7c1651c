"""Who may do what: roles of people, accounts of pods. All of it is data in manifests/roles.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.base import Part, Site, manifests
from infra.settings import Settings
from infra.tenancy import namespaces

RBAC = "rbac.authorization.k8s.io"


def identity(settings: Settings) -> dict[str, str]:
    """Annotations by which the cloud gives the pods of an account its role's rights, with no key anywhere."""
    role = settings.objects.role
    if not (role and settings.objects.uri and settings.objects.workload_identity):
        return {}
    return {"eks.amazonaws.com/role-arn" if role.startswith("arn:") else "iam.gke.io/gcp-service-account": role}


class Access(Part):
    def __init__(self, site: Site, after: Sequence[Part] = ()) -> None:
        super().__init__("Access", site, after)
        table, *roles = manifests("roles", training=site.tenancy.training)
        made = {role["metadata"]["name"]: self.apply(role) for role in roles}
        workloads = [n.name for n in namespaces(site.settings, site.versions) if n.workload]
        self.groups = {
            "workloads": workloads,
            "serving": list(site.tenancy.serving),
            "training": [site.tenancy.training],
        }
        for account in table["accounts"]:
            for namespace in self.groups[account["in"]]:
                self.apply(_account(account["name"], namespace, identity(site.settings)))
        for row in table["bindings"]:
            for manifest in self._bindings(row):
                self.apply(manifest, after=[made[row["role"]]])
        self.done()

    def _bindings(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """One a namespace; none where the settings name no group."""
        if "account" in row:
            home, account = row["account"].split("/")
            name = f"{row['role']}-{account}" if account not in row["role"] else row["role"]
            subjects: list[dict[str, str]] = [{"kind": "ServiceAccount", "name": account, "namespace": home}]
        else:
            names = dict.fromkeys(group for key in row["groups"] for group in getattr(self.site.tenancy, key))
            name, subjects = row["role"], [{"kind": "Group", "name": n, "apiGroup": RBAC} for n in names]
        if not subjects:
            return
        rest = {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": row["role"]}, "subjects": subjects}
        if row["in"] == "cluster":
            yield {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, **rest}
            return
        for namespace in dict.fromkeys(n for place in row["in"] for n in self.groups.get(place, [place])):
            meta = {"name": name, "namespace": namespace}
            yield {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": meta, **rest}


def _account(name: str, namespace: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, **({"annotations": dict(annotations)} if annotations else {})}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}
