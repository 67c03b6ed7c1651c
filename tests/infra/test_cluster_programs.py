"""The cluster program under mocks: each cloud, the shipped stacks and examples, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml

from infra.cluster import estimate, settings
from infra.cluster.existing import cut_out
from infra.cluster.program import deploy
from infra.settings import of_stack
from infra.settings import parse as platform_settings
from seaway import cost
from seaway.errors import SeawayError
from tests.infra import arguments, rendering
from tests.infra.rendering import Rendered, run

EXAMPLES = sorted((settings.FOLDER / "examples").glob("*.yaml"))
PLATFORM = {
    "env": "test",
    "cluster": {"stack": "organization/seaway-cluster/nowhere"},
    "tenancy": {"serving": ["serving-test"], "quotas": {"serving-test": {}, "training": {}}},
    "budget": {"monthly_usd": 9000},
}
EKS = settings.of_stack("prod")
GKE = settings.parse(
    yaml.safe_load((settings.FOLDER / "examples/gke.yaml").read_text())["config"][f"{settings.PROJECT}:settings"]
)


class Clouds(rendering._Mocks):
    """What a cloud tells of what it has made."""

    def new_resource(self, args):
        known = {
            "name": args.inputs.get("name", f"{args.name}_name"),
            "arn": f"arn:mock:{args.name}",
            "endpoint": "198.51.100.1" if args.typ.startswith("gcp:") else "https://198.51.100.1",
            "certificateAuthority": {"data": "QQ=="},
            "masterAuth": {"clusterCaCertificate": "QQ=="},
            "selfLink": f"projects/mock/{args.name}",
            "latestVersion": 1,
            "email": f"{args.name}@mock",
        }
        identity, state = super().new_resource(args)
        return identity, {**known, **state}

    def call(self, args):
        return {"number": "123", "projectId": "mock"}, []


def made(cluster: settings.Settings, **platform) -> Rendered:
    with mock.patch.object(rendering, "_Mocks", Clouds):
        return run(lambda: deploy(cluster, platform_settings({**PLATFORM, **platform})), "test")


@pytest.fixture(scope="module")
def eks() -> Rendered:
    return made(EKS)


@pytest.fixture(scope="module")
def gke() -> Rendered:
    return made(GKE)


def of(rendered: Rendered, kind: str) -> dict[str, dict]:
    """Name -> properties of the resources whose type ends so."""
    return {r.name: r.props for r in rendered if r.type.endswith(kind)}


def test_the_api_server_of_eks_is_private_and_open_to_named_networks_alone(eks):
    (cluster,) = of(eks, ":eks/cluster:Cluster").values()
    assert cluster["vpcConfig"]["endpointPrivateAccess"] and cluster["vpcConfig"]["endpointPublicAccess"]
    assert cluster["vpcConfig"]["publicAccessCidrs"] == ["198.51.100.0/24"]
    assert cluster["encryptionConfig"]["resources"] == ["secrets"] and cluster["encryptionConfig"]["provider"]["keyArn"]
    assert "audit" in cluster["enabledClusterLogTypes"]
    (logs,) = of(eks, ":LogGroup").values()
    assert logs["name"] == "/aws/eks/seaway-prod/cluster" and logs["retentionInDays"] == 90
    assert cluster["accessConfig"] == {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False}
    closed = made(EKS.model_copy(update={"access": settings.Access(admins=EKS.access.admins)}))
    (cluster,) = of(closed, ":eks/cluster:Cluster").values()
    assert not cluster["vpcConfig"]["endpointPublicAccess"] and "publicAccessCidrs" not in cluster["vpcConfig"]


def test_administrators_are_access_entries_and_come_before_anything_inside(eks):
    (entry,) = of(eks, ":AccessEntry").values()
    assert entry["principalArn"] == "arn:aws:iam::111122223333:role/seaway-deploy"
    (admin,) = [r for r in eks if r.type.endswith(":AccessPolicyAssociation")]
    inside = [r for r in eks if r.type.startswith("kubernetes:")]
    assert {r.type.rpartition(":")[2] for r in inside} == {"StorageClass", "Release"}
    assert all(admin.urn in r.dependencies for r in inside)


def test_the_gpu_pool_is_tainted_spot_and_scales_from_none(eks, gke):
    group = of(eks, ":NodeGroup")["gpu"]
    assert group["capacityType"] == "SPOT" and group["amiType"] == "AL2023_x86_64_NVIDIA"
    assert group["scalingConfig"] == {"minSize": 0, "maxSize": 2, "desiredSize": 0}
    assert {"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"} in group["taints"]
    assert group["labels"]["seaway.dev/pool"] == "gpu"
    (captured,) = [r for r in eks if r.type.endswith(":NodeGroup") and r.name == "gpu"]
    assert captured.ignore == ("scalingConfig.desiredSize",)
    pool = of(gke, ":NodePool")["gpu"]
    assert pool["autoscaling"]["totalMinNodeCount"] == 0 and pool["autoscaling"]["totalMaxNodeCount"] == 2
    assert pool["initialNodeCount"] == 0 and pool["nodeConfig"]["spot"]
    assert pool["nodeConfig"]["guestAccelerators"][0]["type"] == "nvidia-l4"


def test_the_autoscaler_may_only_resize_groups_of_its_own_cluster(eks):
    policy = json.loads(of(eks, ":RolePolicy")["autoscaler"]["policy"])
    changing = [s for s in policy["Statement"] if any("Set" in a or "Terminate" in a for a in s["Action"])]
    key = "aws:ResourceTag/k8s.io/cluster-autoscaler/seaway-prod"
    assert [s["Condition"] for s in changing] == [{"StringEquals": {key: "owned"}}]
    bound = of(eks, ":PodIdentityAssociation")["kube-system-cluster-autoscaler"]
    (chart,) = of(eks, ":Release").values()
    assert bound["serviceAccount"] == chart["values"]["rbac"]["serviceAccount"]["name"] == chart["name"]
    assert chart["values"]["autoDiscovery"]["clusterName"] == bound["clusterName"].replace("cluster_id", "seaway-prod")


def test_nodes_get_no_public_address_and_pods_not_the_nodes_rights(eks, gke):
    groups = of(eks, ":NodeGroup")
    assert all(set(g["subnetIds"]) == {f"nodes-{z}_id" for z in "abc"} for g in groups.values())
    for template in of(eks, ":LaunchTemplate").values():
        assert template["metadataOptions"] == {"httpTokens": "required", "httpPutResponseHopLimit": 1}
        assert template["blockDeviceMappings"][0]["ebs"]["encrypted"] == "true"
    (cluster,) = of(gke, ":container/cluster:Cluster").values()
    assert cluster["privateClusterConfig"]["enablePrivateNodes"]
    assert all(
        p["nodeConfig"]["workloadMetadataConfig"] == {"mode": "GKE_METADATA"} for p in of(gke, ":NodePool").values()
    )


def test_network_policies_are_kept_by_both(eks, gke):
    assert json.loads(of(eks, ":eks/addon:Addon")["vpc-cni"]["configurationValues"])["enableNetworkPolicy"] == "true"
    (cluster,) = of(gke, ":container/cluster:Cluster").values()
    assert cluster["datapathProvider"] == "ADVANCED_DATAPATH"


def test_addons_that_nodes_need_come_before_them_and_the_others_after(eks):
    urns = {r.name: r for r in eks if r.type.endswith(":eks/addon:Addon")}
    groups = [r for r in eks if r.type.endswith(":NodeGroup")]
    for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent"):
        assert all(urns[name].urn in g.dependencies for g in groups)
    for name in ("coredns", "metrics-server", "aws-ebs-csi-driver"):
        assert all(g.urn in urns[name].dependencies for g in groups)


def test_networks_of_our_own_are_disjoint_and_each_zone_has_its_way_out(eks):
    from ipaddress import IPv4Network
    from itertools import combinations

    nets = [IPv4Network(s["cidrBlock"]) for s in of(eks, ":Subnet").values()]
    assert len(nets) == 6 and not any(a.overlaps(b) for a, b in combinations(nets, 2))
    assert all(n.subnet_of(IPv4Network(EKS.network.cidr)) for n in nets)
    assert len(of(eks, ":NatGateway")) == 3
    one = made(EKS.model_copy(update={"network": settings.Network(nat="one")}))
    assert len(of(one, ":NatGateway")) == 1
    mine = settings.Network(vpc="vpc-1", private_subnets=("subnet-a", "subnet-b"), public_subnets=("subnet-c",))
    theirs = made(EKS.model_copy(update={"network": mine}))
    assert not of(theirs, ":Vpc") and not of(theirs, ":NatGateway")
    assert all(g["subnetIds"] == ["subnet-a", "subnet-b"] for g in of(theirs, ":NodeGroup").values())


EKS_DATA = ("Cluster", "Key", "Bucket", "Vpc")
GKE_DATA = ("Cluster", "KeyRing", "CryptoKey", "Bucket", "Network")


@pytest.mark.parametrize(("cluster", "data"), [(EKS, EKS_DATA), (GKE, GKE_DATA)], ids=["eks", "gke"])
def test_what_holds_data_outlives_a_mistake_only_where_the_settings_protect(cluster, data):
    kinds = {f":{kind}" for kind in data}
    safe = made(cluster)
    kept = [r for r in safe if f":{r.type.rpartition(':')[2]}" in kinds]
    assert len(kept) == len(data) and all(r.protect and r.retain for r in kept)
    assert any(r.props.get("deletionProtection") for r in kept)
    loose = made(cluster.model_copy(update={"protect": False}))
    assert not any(r.protect or r.retain or r.props.get("deletionProtection") for r in loose)


def test_the_clouds_own_budget_is_the_platforms(eks, gke):
    (budget,) = of(eks, ":budgets/budget:Budget").values()
    assert budget["limitAmount"] == "9000" and budget["costFilters"][0]["values"] == ["user:seaway$seaway-prod"]
    assert [(n["notificationType"], n["threshold"]) for n in budget["notifications"]] == [
        ("ACTUAL", 50), ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]  # fmt: skip
    assert all(n["subscriberEmailAddresses"] == ["ml-platform@example.com"] for n in budget["notifications"])
    (budget,) = of(gke, ":billing/budget:Budget").values()
    assert budget["amount"]["specifiedAmount"] == {"currencyCode": "USD", "units": "9000"}
    assert budget["thresholdRules"][-1] == {"thresholdPercent": 1, "spendBasis": "FORECASTED_SPEND"}


@pytest.mark.parametrize(("cluster", "key"), [(EKS, "emails"), (GKE, "billing_account")])
def test_a_protected_cluster_without_an_alert_is_refused(cluster, key):
    with pytest.raises(SeawayError, match=rf"alerts\.{key} is missing"):
        made(cluster.model_copy(update={"alerts": settings.Alerts()}))


def test_the_kubeconfig_asks_the_cloud_for_a_token_and_holds_none(eks, gke):
    for rendered, command in ((eks, "aws"), (gke, "gke-gcloud-auth-plugin")):
        config = json.loads(rendered.outputs["kubeconfig"])
        (user,) = config["users"]
        assert set(user["user"]) == {"exec"} and user["user"]["exec"]["command"] == command
        assert config["current-context"] == config["contexts"][0]["name"]
        assert rendered.outputs["identifier"] and rendered.outputs["node_pools"]["gpu"]["gpu"] == 1
        assert rendered.outputs["estimate"]["monthly_usd"]["expected"] > 500
    assert json.loads(gke.outputs["kubeconfig"])["clusters"][0]["cluster"]["server"].startswith("https://")


def test_buckets_are_closed_to_the_public_and_open_to_the_named_accounts(eks, gke):
    (closed,) = of(eks, ":BucketPublicAccessBlock").values()
    assert all(closed[k] for k in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"))
    resources = {s["Resource"] for s in json.loads(of(eks, ":RolePolicy")["objects"]["policy"])["Statement"]}
    assert resources == {"arn:aws:s3:::seaway-prod-111122223333", "arn:aws:s3:::seaway-prod-111122223333/*"}
    accounts = {f"{p['namespace']}/{p['serviceAccount']}" for p in of(eks, ":PodIdentityAssociation").values()}
    assert accounts == {*EKS.objects.accounts, "kube-system/cluster-autoscaler"}
    (bucket,) = of(gke, ":Bucket").values()
    assert bucket["publicAccessPrevention"] == "enforced" and bucket["uniformBucketLevelAccess"]
    members = [m["member"] for m in of(gke, ":BucketIAMMember").values()]
    assert len(members) == len(GKE.objects.accounts) and all("/subject/ns/" in m for m in members)


@pytest.mark.parametrize("cluster", [EKS, GKE], ids=["eks", "gke"])
def test_every_argument_is_one_that_the_clouds_sdk_knows(cluster):
    """The files hold arguments as plain data, and an unknown one would only be refused by the cloud."""
    rendered = made(cluster)
    wrong = [problem for r in rendered for problem in arguments.unknown(r.type, r.props)]
    assert not wrong and len(rendered) > 20
    assert arguments.unknown("aws:eks/cluster:Cluster", {"vpcConfig": {"endpointPublicAcess": True}}) == [
        "aws:eks/cluster:Cluster: vpcConfig.endpointPublicAcess"
    ]


def test_a_missing_sdk_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pulumi_aws", None)
    with pytest.raises(SeawayError, match="uv sync --inexact --group aws"):
        made(EKS)


def test_no_cloud_is_imported_by_the_settings_or_for_a_cluster_that_exists():
    import subprocess

    code = (
        "import sys; from infra.cluster import settings, estimate, program, existing; settings.of_stack('prod');"
        "print([m for m in ('pulumi_aws', 'pulumi_gcp', 'pulumi_kubernetes') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_context_is_cut_out_of_a_kubeconfig_with_its_files(tmp_path):
    (tmp_path / "ca.crt").write_text("authority")
    entry = {"name": "there", "cluster": {"server": "https://there", "certificate-authority": "ca.crt"}}
    whole = {
        "current-context": "other",
        "clusters": [{"name": "other", "cluster": {"server": "https://other"}}, entry],
        "users": [{"name": "me", "user": {"token": "secret"}}, {"name": "you", "user": {"token": "of others"}}],
        "contexts": [{"name": n, "context": {"cluster": n, "user": "me"}} for n in ("other", "there")],
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(whole))
    cut = cut_out(file, "there")
    assert cut["current-context"] == "there" and "of others" not in str(cut) and "other" not in str(cut["clusters"])
    assert cut["clusters"][0]["cluster"] == {"server": "https://there", "certificate-authority-data": "YXV0aG9yaXR5"}
    with pytest.raises(SeawayError, match="has no context 'away'; it has: other, there"):
        cut_out(file, "away")
    with pytest.raises(SeawayError, match="cannot be read"):
        cut_out(tmp_path / "none", "there")
    there = settings.parse({"provider": "existing", "name": "x", "context": "there", "kubeconfig": str(file)})
    rendered = made(there)
    assert list(rendered) == [] and json.loads(rendered.outputs["kubeconfig"]) == cut
    assert rendered.outputs["identifier"].startswith("x-")
    whole["clusters"][1]["cluster"]["server"] = "https://elsewhere"
    file.write_text(yaml.safe_dump(whole))
    assert made(there).outputs["identifier"] != rendered.outputs["identifier"]


@pytest.mark.parametrize("file", EXAMPLES, ids=[f.stem for f in EXAMPLES])
def test_the_examples_are_valid(file):
    data = yaml.safe_load(file.read_text())["config"]
    assert list(data) == [f"{settings.PROJECT}:settings"]
    read = settings.parse(data[f"{settings.PROJECT}:settings"], str(file))
    assert estimate.of(read, platform_settings(PLATFORM), cost.load()).monthly > 0


def test_the_estimate_counts_what_the_program_makes(eks):
    lines = {line["name"]: line["what"] for line in eks.outputs["estimate"]["lines"]}
    assert lines["NAT gateway"].startswith(f"{len(of(eks, ':NatGateway'))} x ")
    assert {name for name in lines if name in EKS.pools} == set(of(eks, ":NodeGroup"))
    one = EKS.model_copy(update={"network": settings.Network(nat="one")})
    assert (
        estimate.of(one, platform_settings(PLATFORM), cost.load()).monthly
        < eks.outputs["estimate"]["monthly_usd"]["expected"]
    )


def test_pods_tolerate_the_taints_of_the_pools():
    from components.ray import rayjob
    from pipelines import pods

    assert {rayjob.SPOT, pods.SPOT} == set(settings.SPOT_TAINT) and {rayjob.GPU} == set(settings.GPU_TAINT)


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_the_shipped_stacks_are_valid_and_within_their_platforms_budget(env):
    assert settings.of_stack(env)
    platform = of_stack(env)
    assert estimate.excess(platform) == ""
    assert estimate.of_platform(platform).monthly > 0 or settings.of_stack(env).provider == "existing"


def test_there_is_no_stack_of_an_unknown_name():
    assert settings.of_stack("nowhere") is None


BAD = [
    ({"provider": "azure"}, "provider"),
    ({"regoin": "x"}, "unknown key 'regoin'"),
    ({"region": None}, "provider aws needs region"),
    ({"version": "1.34.2"}, "no Kubernetes version"),
    ({"pools": {"gpu": {"machine": "g5.xlarge", "min": 1, "max": 1, "gpu": 1}}}, "none for the platform itself"),
    ({"pools": {"system": {"machine": "m7i.large", "min": 3, "max": 2}}}, "min 3 is above max 2"),
    ({"pools": {"Sys tem": {"machine": "m7i.large", "min": 1, "max": 2}}}, "is no name"),
    ({"network": {"cidr": "10.20.0.0/33"}}, "write a network such as"),
    ({"network": {"cidr": "10.65.0.0/16"}}, "cidr 10.65.0.0/16 and pods 10.64.0.0/14 overlap"),
    ({"network": {"vpc": "vpc-1"}}, "vpc and private_subnets go together"),
    ({"access": {"allow": ["0.0.0.0/0"], "admins": ["arn:x"]}}, "opens the API server to everyone"),
    ({"access": {}}, "access.admins is empty"),
    ({"provider": "existing"}, "needs context"),
    ({"provider": "gcp"}, "provider gcp needs project"),
    ({"budget": 100}, "unknown key 'budget'"),
]


@pytest.mark.parametrize(("change", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_settings_are_refused_and_the_key_is_named(change, told):
    good = {
        "provider": "aws", "name": "x", "region": "us-east-1", "access": {"admins": ["arn:aws:iam::1:role/x"]},
        "pools": {"system": {"machine": "m7i.large", "min": 1, "max": 2}},
    }  # fmt: skip
    assert settings.parse(good).name == "x"
    with pytest.raises(SeawayError) as refused:
        settings.parse({**good, **change}, "Pulumi.x.yaml")
    assert told in str(refused.value) and "Pulumi.x.yaml" in str(refused.value)


def test_a_budget_below_the_estimate_is_refused_before_anything_is_made():
    asked = []
    with (
        mock.patch.object(Clouds, "new_resource", lambda _, args: asked.append(args.name)),
        pytest.raises(SeawayError, match=r"budget\.monthly_usd: 100 is below the estimate"),
    ):
        made(EKS, budget={"monthly_usd": 100})
    assert asked == []


def test_an_unknown_machine_type_names_the_file_to_edit():
    pools = {"system": settings.Pool(machine="m9i.xlarge", min=1, max=1)}
    with pytest.raises(SeawayError, match=r"config/prices.yaml has no 'm9i.xlarge'.*m7i.xlarge"):
        made(EKS.model_copy(update={"pools": pools}))


def test_the_kind_file_is_one_control_plane_and_two_workers():
    config = yaml.safe_load(Path(settings.FOLDER / "kind.yaml").read_text())
    assert [n["role"] for n in config["nodes"]] == ["control-plane", "worker", "worker"]
    assert f"kind-{config['name']}" == settings.of_stack("dev").context
