"""A cluster of Google Kubernetes Engine: regional, private nodes, node pools that scale, bucket."""

from __future__ import annotations

from typing import Any

from pulumi import Output

from infra.cluster import budget
from infra.cluster.cloud import Cloud, Made, kubeconfig
from infra.cluster.settings import Pool, Settings


def create(settings: Settings, monthly_usd: float) -> Made:
    return Gke(settings, monthly_usd).made


class Gke(Cloud):
    def __init__(self, settings: Settings, monthly_usd: float) -> None:
        words, labels = {"project": str(settings.project)}, {"seaway": settings.name}
        place = {"project": settings.project, "region": settings.region}
        # budgets are asked for in the name of a project
        quota = {"billing_project": settings.project, "user_project_override": True}
        super().__init__("gke", "gcp", settings, words, default_labels=labels, **place, **quota)
        budget.of_gcp(self, monthly_usd)
        self.number = self.sdk.organizations.get_project_output(project_id=settings.project).number
        cluster = self._control_plane(*self._network())
        node = self.make("serviceaccount.Account", "nodes", account_id=f"{settings.name[:24]}-nodes")
        who = {"project": settings.project, "member": Output.concat("serviceAccount:", node.email)}
        may = self.make("projects.IAMMember", "nodes", role="roles/container.defaultNodeServiceAccount", **who)
        for name, pool in settings.pools.items():
            self._nodes(cluster, name, pool, node.email, may)
        known = Output.all(cluster.name, cluster.endpoint, cluster.master_auth.cluster_ca_certificate)
        self.made = Made(known.apply(_config), cluster.self_link, self._objects() if settings.objects else {})
        self.register_outputs({})

    def _network(self) -> tuple[Any, Any]:
        wanted, name = self.settings.network, self.settings.name
        if wanted.vpc:
            return wanted.vpc, wanted.private_subnets[0]
        network = self.make("compute.Network", name, keep=True, name=name, auto_create_subnetworks=False)
        ranges = {"pods": wanted.pods, "services": wanted.services}
        subnet = self.make(
            "compute.Subnetwork",
            name,
            name=name,
            network=network.id,
            ip_cidr_range=wanted.cidr,
            private_ip_google_access=True,
            secondary_ip_ranges=[{"range_name": k, "ip_cidr_range": v} for k, v in ranges.items()],
        )
        router = self.make("compute.Router", name, name=name, network=network.id)
        self.make("compute.RouterNat", name, name=name, router=router.name, **self.fixed["nat"])
        return network.id, subnet.id

    def _key(self) -> tuple[Any, list[Any]]:
        if self.settings.key:
            return self.settings.key, []
        name = self.settings.name
        ring = self.make("kms.KeyRing", name, keep=True, name=name, location=self.settings.region)
        key = self.make("kms.CryptoKey", name, keep=True, name="secrets", key_ring=ring.id, **self.fixed["key"])
        agent = Output.concat("serviceAccount:service-", self.number, "@container-engine-robot.iam.gserviceaccount.com")
        role = {"role": "roles/cloudkms.cryptoKeyEncrypterDecrypter", "member": agent}
        return key.id, [self.make("kms.CryptoKeyIAMMember", name, crypto_key_id=key.id, **role)]

    def _control_plane(self, network: Any, subnet: Any) -> Any:
        wanted, (key, may) = self.settings, self._key()
        allow = [{"cidr_block": net, "display_name": f"allowed-{n}"} for n, net in enumerate(wanted.access.allow)]
        private = {"enable_private_nodes": True, "enable_private_endpoint": not allow}
        return self.make(
            "container.Cluster",
            "cluster",
            keep=True,
            after=may,
            name=wanted.name,
            location=wanted.region,
            node_locations=self._zones(),
            min_master_version=wanted.version,
            network=network,
            subnetwork=subnet,
            ip_allocation_policy={"cluster_secondary_range_name": "pods", "services_secondary_range_name": "services"},
            private_cluster_config={**private, "master_ipv4_cidr_block": wanted.network.control_plane},
            master_authorized_networks_config={"cidr_blocks": allow},
            database_encryption={"state": "ENCRYPTED", "key_name": key},
            deletion_protection=wanted.protect,
            **self.fixed["cluster"],
        )

    def _nodes(self, cluster: Any, name: str, pool: Pool, account: Any, may: Any) -> Any:
        driver = {"gpu_driver_installation_config": {"gpu_driver_version": "DEFAULT"}}
        gpus = [{"type": pool.accelerator, "count": pool.gpu, **driver}] if pool.gpu else []
        # GKE itself taints nodes with GPUs, under the same key
        own = {k: v for k, v in pool.taints.items() if not k.startswith("nvidia.com/")}
        return self.make(
            "container.NodePool",
            name,
            after=[may],
            ignore=["initialNodeCount"],  # the autoscaler's
            cluster=cluster.id,
            name_prefix=f"{name}-",
            node_locations=self._zones(),
            initial_node_count=-(-pool.min // len(self._zones())),  # of each zone
            autoscaling={
                "total_min_node_count": pool.min,
                "total_max_node_count": pool.max,
                "location_policy": "ANY" if pool.spot else "BALANCED",
            },
            node_config={
                "machine_type": pool.machine,
                "disk_size_gb": pool.disk_gb,
                "spot": pool.spot,
                "labels": pool.labels(name),
                "taints": [{"key": k, "value": v, "effect": "NO_SCHEDULE"} for k, v in own.items()],
                "guest_accelerators": gpus,
                "service_account": account,
                **self.fixed["node"],
            },
            **self.fixed["pool"],
        )

    def _objects(self) -> dict[str, Any]:
        wanted, project = self.settings.objects, self.settings.project
        place = {"name": wanted.bucket, "location": self.settings.region}
        bucket = self.make("storage.Bucket", "objects", keep=True, **place, **self.fixed["bucket"])
        pool = Output.concat("principal://iam.googleapis.com/projects/", self.number, "/locations/global/")
        for account in wanted.accounts:
            space, _, name = account.partition("/")
            subject = f"workloadIdentityPools/{project}.svc.id.goog/subject/ns/{space}/sa/{name}"
            who = {"role": "roles/storage.objectUser", "member": Output.concat(pool, subject)}
            self.make("storage.BucketIAMMember", f"{space}-{name}", bucket=bucket.name, **who)
        return {"objects": f"gs://{wanted.bucket}"}

    def _zones(self) -> list[str]:
        return [f"{self.settings.region}-{zone}" for zone in self.settings.network.zones]


def _config(known: list[str]) -> str:
    plugin = {"command": "gke-gcloud-auth-plugin", "provideClusterInfo": True}
    return kubeconfig(known[0], f"https://{known[1]}", known[2], plugin)
