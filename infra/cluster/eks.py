"""A cluster of Amazon EKS, of plain resources: control plane, node groups, add-ons, autoscaler, bucket."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

from pulumi import Output, Resource, ResourceOptions
from pulumi_kubernetes import Provider
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs
from pulumi_kubernetes.storage.v1 import StorageClass

from infra.cluster import budget
from infra.cluster.cloud import Cloud, Made, kubeconfig
from infra.cluster.settings import Pool, Settings

_ADMIN = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def create(settings: Settings, monthly_usd: float) -> Made:
    return Eks(settings, monthly_usd).made


class Eks(Cloud):
    def __init__(self, settings: Settings, monthly_usd: float) -> None:
        objects = settings.objects
        words = {"cluster": settings.name, "region": str(settings.region), "bucket": objects.bucket if objects else ""}
        tags = {"tags": {"seaway": settings.name}}
        super().__init__("eks", "aws", settings, words, region=settings.region, default_tags=tags)
        budget.of_aws(self, monthly_usd)
        nodes, public = self._network()
        cluster, admins = self._control_plane([*nodes, *public])
        first = [self._addon(cluster, name, **args) for name, args in self.fixed["first"].items()]
        role, may = self._role("node")
        groups = [self._nodes(cluster, n, pool, role.arn, nodes, [*first, *may]) for n, pool in settings.pools.items()]
        config = Output.all(cluster.name, cluster.endpoint, cluster.certificate_authority.data).apply(self._config)
        self._inside(cluster, config, [*admins, *groups])
        self.made = Made(config, cluster.arn, self._objects(cluster) if objects else {})
        self.register_outputs({})

    def _network(self) -> tuple[list[Any], list[Any]]:
        """Ids of the nodes' subnets and of the public ones: those of the settings, or new ones in each zone."""
        wanted, name, region = self.settings.network, self.settings.name, self.settings.region
        if wanted.vpc:
            return list(wanted.private_subnets), list(wanted.public_subnets)
        vpc = self.make("ec2.Vpc", name, keep=True, cidr_block=wanted.cidr, enable_dns_hostnames=True)
        door = self.make("ec2.InternetGateway", name, vpc_id=vpc.id)
        *large, last = IPv4Network(wanted.cidr).subnets(prefixlen_diff=3)
        nodes, public, tables, nat = [], [], [], None
        for zone, wide, small in zip(wanted.zones, large, last.subnets(prefixlen_diff=3), strict=False):
            at = {"vpc_id": vpc.id, "availability_zone": f"{region}{zone}"}
            role = {"tags": {"kubernetes.io/role/elb": "1"}}
            outer = self.make("ec2.Subnet", f"public-{zone}", cidr_block=str(small), **at, **role)
            self._routes(f"public-{zone}", vpc, outer, gateway_id=door.id)
            if not nat or wanted.nat == "zone":
                address = self.make("ec2.Eip", f"nat-{zone}", domain="vpc")
                nat = self.make(
                    "ec2.NatGateway", f"nat-{zone}", after=[door], subnet_id=outer.id, allocation_id=address.id
                )
            role = {"tags": {"kubernetes.io/role/internal-elb": "1"}}
            inner = self.make("ec2.Subnet", f"nodes-{zone}", cidr_block=str(wide), **at, **role)
            tables.append(self._routes(f"nodes-{zone}", vpc, inner, nat_gateway_id=nat.id).id)
            nodes, public = [*nodes, inner.id], [*public, outer.id]
        # object storage without the gateway, and without its price a GB
        service = f"com.amazonaws.{region}.s3"
        self.make("ec2.VpcEndpoint", "objects", vpc_id=vpc.id, service_name=service, route_table_ids=tables)
        return nodes, public

    def _routes(self, name: str, vpc: Any, subnet: Any, **out: Any) -> Any:
        table = self.make("ec2.RouteTable", name, vpc_id=vpc.id, routes=[{"cidr_block": "0.0.0.0/0", **out}])
        self.make("ec2.RouteTableAssociation", name, route_table_id=table.id, subnet_id=subnet.id)
        return table

    def _control_plane(self, subnets: list[Any]) -> tuple[Any, list[Resource]]:
        wanted = self.settings
        key = wanted.key or self.make("kms.Key", "secrets", keep=True, **self.fixed["key"]).arn
        role, may = self._role("cluster")
        # made first: the cluster would make one that keeps its lines, and their price, for ever
        may.append(
            self.make("cloudwatch.LogGroup", "logs", name=f"/aws/eks/{wanted.name}/cluster", **self.fixed["logs"])
        )
        allow = list(wanted.access.allow)
        cluster = self.make(
            "eks.Cluster",
            "cluster",
            keep=True,
            after=may,
            name=wanted.name,
            version=wanted.version,
            role_arn=role.arn,
            vpc_config={
                "subnet_ids": subnets,
                "endpoint_private_access": True,
                "endpoint_public_access": bool(allow),
                **({"public_access_cidrs": allow} if allow else {}),
            },
            kubernetes_network_config={"service_ipv4_cidr": wanted.network.services},
            encryption_config={"provider": {"key_arn": key}, "resources": ["secrets"]},
            enabled_cluster_log_types=list(wanted.logs),
            deletion_protection=wanted.protect,
            **self.fixed["cluster"],
        )
        admins = []
        for arn in wanted.access.admins:
            name, who = arn.rpartition("/")[2], {"cluster_name": cluster.name, "principal_arn": arn}
            entry = self.make("eks.AccessEntry", name, **who)
            may = {"policy_arn": _ADMIN, "access_scope": {"type": "cluster"}}
            admins.append(self.make("eks.AccessPolicyAssociation", name, after=[entry], **who, **may))
        return cluster, admins

    def _nodes(
        self, cluster: Any, name: str, pool: Pool, role: Any, subnets: list[Any], after: list[Resource]
    ) -> Resource:
        disk = {"volume_size": pool.disk_gb, "volume_type": "gp3", "encrypted": "true"}
        mapping = [{"device_name": "/dev/xvda", "ebs": disk}]
        template = self.make("ec2.LaunchTemplate", name, block_device_mappings=mapping, **self.fixed["template"])
        return self.make(
            "eks.NodeGroup",
            name,
            after=after,
            ignore=["scalingConfig.desiredSize"],  # the autoscaler's
            cluster_name=cluster.name,
            node_group_name_prefix=f"{name}-",  # another machine type is a new group, and then the old one goes
            node_role_arn=role,
            subnet_ids=subnets,
            instance_types=[pool.machine],
            ami_type=f"AL2023_x86_64_{'NVIDIA' if pool.gpu else 'STANDARD'}",
            capacity_type="SPOT" if pool.spot else "ON_DEMAND",
            scaling_config={"min_size": pool.min, "max_size": pool.max, "desired_size": pool.min},
            labels=pool.labels(name),
            taints=[{"key": k, "value": v, "effect": "NO_SCHEDULE"} for k, v in pool.taints.items()],
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            **self.fixed["group"],
        )

    def _inside(self, cluster: Any, config: Any, after: list[Resource]) -> None:
        """What a platform needs to find there: names, volumes, counters, and nodes that come and go."""
        volumes, may = self._role("volumes")
        own = [{"role_arn": volumes.arn, "service_account": "ebs-csi-controller-sa"}]
        identity = {"aws-ebs-csi-driver": {"pod_identity_associations": own}}
        then = self.fixed["then"].items()
        made = [self._addon(cluster, n, [*after, *may], **args, **identity.get(n, {})) for n, args in then]
        role, may = self._role("autoscaler")
        bound = self._bind(cluster, role.arn, "kube-system/cluster-autoscaler", may)
        inside = Provider("inside", kubeconfig=config, opts=ResourceOptions(parent=self))
        opts = ResourceOptions(parent=self, provider=inside, depends_on=[*after, *made, bound], deleted_with=cluster)
        StorageClass("gp3", opts=opts, **self.fixed["storage_class"])
        place, name = self.settings.autoscaler_chart, "cluster-autoscaler"
        named = place.startswith("https://")
        chart = {"chart": name, "repository_opts": RepositoryOptsArgs(repo=place)} if named else {}
        chart = chart or {"chart": f"{place.rstrip('/')}/{name}"}
        rest = {"namespace": "kube-system", "atomic": True, "cleanup_on_fail": True, **self.fixed["autoscaler"]}
        Release(name, name=name, opts=opts, **chart, **rest)

    def _objects(self, cluster: Any) -> dict[str, Any]:
        wanted = self.settings.objects
        bucket = self.make("s3.Bucket", "objects", keep=True, bucket=wanted.bucket)
        kept = {"status": "Enabled"}
        self.make("s3.BucketVersioning", "objects", bucket=bucket.id, versioning_configuration=kept)
        self.make("s3.BucketPublicAccessBlock", "objects", bucket=bucket.id, **self.fixed["closed"])
        role, may = self._role("objects")
        for account in wanted.accounts:
            self._bind(cluster, role.arn, account, may)
        return {"objects": f"s3://{wanted.bucket}", "objectsRole": role.arn}

    def _addon(self, cluster: Any, name: str, after: list[Resource] = (), **args: Any) -> Resource:
        same = self.fixed["addon"]
        return self.make("eks.Addon", name, after=after, cluster_name=cluster.name, addon_name=name, **same, **args)

    def _bind(self, cluster: Any, role: Any, account: str, after: list[Resource]) -> Resource:
        space, _, name = account.partition("/")
        who = {"cluster_name": cluster.name, "namespace": space, "service_account": name, "role_arn": role}
        return self.make("eks.PodIdentityAssociation", f"{space}-{name}", after=after, **who)

    def _role(self, name: str) -> tuple[Any, list[Resource]]:
        """A role, and what gives it its rights."""
        role = self.fixed["roles"][name]
        actions = ["sts:AssumeRole", *(["sts:TagSession"] if role["service"].startswith("pods.") else [])]
        trust = {"Effect": "Allow", "Principal": {"Service": role["service"]}, "Action": actions}
        made = self.make("iam.Role", name, assume_role_policy=_policy([trust]))
        if "own" in role:
            return made, [self.make("iam.RolePolicy", name, role=made.id, policy=_policy(role["own"]))]
        arns = [f"arn:aws:iam::aws:policy/{policy}" for policy in role["managed"]]
        kind = "iam.RolePolicyAttachment"
        return made, [self.make(kind, arn.rpartition("/")[2], role=made.name, policy_arn=arn) for arn in arns]

    def _config(self, known: list[str]) -> str:
        args = ["eks", "get-token", "--cluster-name", known[0], "--region", self.settings.region, "--output", "json"]
        return kubeconfig(*known, {"command": "aws", "args": args})


def _policy(statements: list[Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
