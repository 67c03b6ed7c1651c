"""What the platform program would make: run once under mocks, every request to the engine kept as it was sent.

Mocks alone do not show protection, dependencies or providers, and a test that asserts inside ``apply`` can pass
without having run. So the program runs to its end, and tests then look at the list.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pulumi
import yaml
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import mocks
from pulumi.runtime.settings import set_root_resource

from infra.settings import PROJECT, Settings, of_stack

STACKS = ("dev", "staging", "prod")
SECRET = "4dabf18193072939515e22adb298388d"  # the key by which the engine's protocol marks a secret
# every Pulumi secret that the program may ask for; values that no test looks at
CONFIG = {
    f"{PROJECT}:{name}": f"of-tests-{name}"
    for name in (
        "redisPassword",
        "databasePassword",
        "pipelinesPassword",
        "storageAccessKey",
        "storageSecretKey",
        "grafanaPassword",
        "modelKey",
        "modelPublicKey",
        "labelsKey",
    )
}
KUBECONFIG = yaml.safe_dump(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "mock", "cluster": {"server": "https://mock.invalid"}}],
        "users": [{"name": "mock", "user": {}}],
        "contexts": [{"name": "mock", "context": {"cluster": "mock", "user": "mock"}}],
        "current-context": "mock",
    }
)
# outputs of a stack of the program infra/cluster
OUTPUTS = {"kubeconfig": KUBECONFIG, "identifier": "mock-cluster", "pools": {}, "estimate": {}}


@dataclass(frozen=True)
class Captured:
    """One resource as the program asked for it. ``props`` are plain: whole numbers are ints, secrets are open."""

    type: str
    name: str
    urn: str
    props: Mapping[str, Any]
    protect: bool = False
    retain: bool = False  # outlives its deletion from the stack
    dependencies: tuple[str, ...] = ()  # URNs, those by properties too
    provider: str = ""  # URN::id
    parent: str = ""
    timeouts: Mapping[str, str] = field(default_factory=dict)  # create, update, delete
    ignore: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()  # paths of properties that are secret

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """The Kubernetes object, where this is one."""
        is_object = self.type.startswith("kubernetes:") and {"apiVersion", "kind", "metadata"} <= set(self.props)
        return self.props if is_object else None

    @property
    def kind(self) -> str:
        return self.props.get("kind", "") if self.manifest else ""

    @property
    def namespace(self) -> str:
        return self.props["metadata"].get("namespace", "") if self.manifest else self.props.get("namespace", "")


class Rendered(list[Captured]):
    """The resources in an order in which they can be applied, and the stack's outputs."""

    outputs: Mapping[str, Any]

    def of(self, kind: str) -> list[Captured]:
        return [r for r in self if r.kind == kind]

    def manifests(self) -> list[Mapping[str, Any]]:
        return [r.manifest for r in self if r.manifest]


class _Mocks(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict]:
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {"name": args.name, "outputs": OUTPUTS, "secretOutputNames": ["kubeconfig"]}
        state = dict(args.inputs)
        if args.typ.endswith(":Release"):
            state["status"] = {"name": state.get("name"), "namespace": state.get("namespace"), "status": "deployed"}
        return args.resource_id or f"{args.name}_id", state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict, None]:
        return {}, None


class _Monitor(mocks.MockMonitor):
    """Keeps the requests. They come from threads, each after those that it depends on."""

    def __init__(self) -> None:
        super().__init__(_Mocks())
        self.captured, self._lock = Rendered(), threading.Lock()

    def RegisterResource(self, request: Any) -> Any:
        answer = super().RegisterResource(request)
        if request.type == "pulumi:pulumi:Stack":
            return answer
        secrets: list[str] = []
        one = Captured(
            type=request.type,
            name=request.name,
            urn=answer.urn,
            props=clean(MessageToDict(request.object), secrets),
            protect=request.protect,
            retain=request.retainOnDelete,
            dependencies=tuple(request.dependencies),
            provider=request.provider,
            parent=request.parent,
            timeouts={k: v for k in ("create", "update", "delete") if (v := getattr(request.customTimeouts, k))},
            ignore=tuple(request.ignoreChanges),
            secrets=tuple(secrets),
        )
        with self._lock:
            self.captured.append(one)
        return answer


def clean(value: Any, secrets: list[str] | None = None, path: str = "") -> Any:
    """A property as a manifest has it: 2.0 is 2, a secret is its value; its path goes to ``secrets``."""
    if isinstance(value, Mapping):
        if SECRET in value:
            if secrets is not None:
                secrets.append(path)
            return clean(value.get("value"), None, path)
        return {k: clean(v, secrets, f"{path}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [clean(v, secrets, f"{path}[{i}]") for i, v in enumerate(value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def run(program: Callable[[], Any], stack: str, config: Mapping[str, str] | None = None) -> Rendered:
    """All that ``program`` makes in a stack of this name. What it raises is raised here."""
    monitor = _Monitor()
    asyncio.set_event_loop(asyncio.new_event_loop())  # Pulumi's mocks take the thread's; other tests leave none
    set_root_resource(None)  # else the stack before this one is the parent
    pulumi.runtime.set_mocks(monitor.mocks, project=PROJECT, stack=stack, preview=False, monitor=monitor)
    chosen = {**CONFIG, **(config or {})}
    pulumi.runtime.set_all_config(chosen, list(chosen))
    kept: dict[str, Any] = {}

    def play() -> Any:
        return pulumi.Output.from_input(program()).apply(lambda outputs: kept.update(outputs or {}))

    mocks.test(play)()
    monitor.captured.outputs = kept
    return monitor.captured


@cache
def _stack(env: str) -> Rendered:
    return render(env, of_stack(env))


def render(env: str, settings: Settings | None = None) -> Rendered:
    """The platform of an environment; of its own settings (once a session), or of those given."""
    if settings is None:
        return _stack(env)
    from infra.program import deploy

    return run(lambda: deploy(settings), env)
