"""config/<env>.yaml and the platform's settings name the same places: nobody reads both."""

import pytest

from infra.addons.info import addresses
from infra.settings import of_stack
from seaway.config import load
from tests.infra.rendering import STACKS, render

IN_CLUSTER = "http://seaweedfs.kubeflow:9000"


@pytest.fixture(params=STACKS)
def both(request):
    return load(request.param), of_stack(request.param)


def secrets(env):
    return {(r.manifest["metadata"]["name"], r.namespace) for r in render(env).of("Secret")}


def test_addresses(both):
    config, settings = both
    told = addresses(settings)
    assert config.online_store.connection == told["online store"]
    assert config.tracking_uri == told["tracking"] and config.pipeline.host == told["pipelines"]
    assert config.serving.prometheus == told["prometheus"]
    assert config.storage.uri and config.storage.uri.startswith(told["objects"])
    assert config.storage.endpoint == (settings.objects.endpoint or (None if settings.objects.uri else IN_CLUSTER))
    assert config.storage.region == settings.objects.region


def test_namespaces_and_accounts(both):
    config, settings = both
    assert (
        config.serving.namespace in settings.tenancy.serving and config.serving.controller_namespace == "seaway-system"
    )
    assert config.ray.namespace == settings.tenancy.training and config.pipeline.namespace == "kubeflow"
    assert config.ray.substrate == "kuberay"
    accounts = {(r.manifest["metadata"]["name"], r.namespace) for r in render(config.env).of("ServiceAccount")}
    assert (config.ray.service_account, config.ray.namespace) in accounts
    assert (config.serving.service_account, config.serving.namespace) in accounts


def test_passwords_are_where_pods_look_for_them(both):
    config, settings = both
    made = secrets(config.env)
    for namespace in ("kubeflow", config.serving.namespace):
        assert (config.online_store.password_secret, namespace) in made
    named = {
        n for n in ("kubeflow", config.serving.namespace, config.ray.namespace) if (config.storage.secret, n) in made
    }
    assert len(named) == (0 if settings.objects.uri else 3)
    assert (config.storage.secret is None) == bool(settings.objects.uri)
    keys = {
        r.namespace
        for r in render(config.env).of("ConfigMap")
        if r.manifest["metadata"]["name"] == config.serving.trust
    }
    assert {config.serving.namespace, "seaway-system", "kubeflow"} <= keys


def test_what_asks_for_a_gpu_names_the_queue_that_there_is(both):
    config, settings = both
    queue = settings.gpu.queue if settings.gpu else None
    assert config.ray.queue == queue and config.pipeline.queue == queue
    asked = config.ray.worker.gpu + sum(r.gpu for r in config.pipeline.resources.values())
    assert settings.gpu or not asked


def test_sweeps_fit_into_the_quota(both):
    from infra.addons.online import size

    config, settings = both
    quota = settings.tenancy.quotas[settings.tenancy.training]
    ray, many = config.ray, config.ray.max_workers or config.ray.workers
    assert float(ray.head.cpu) + many * float(ray.worker.cpu) <= float(quota.cpu)
    assert size(ray.head.memory) + many * size(ray.worker.memory) <= size(quota.memory)
    assert many * ray.worker.gpu <= quota.gpu
