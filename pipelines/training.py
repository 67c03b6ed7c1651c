"""The training pipeline: from raw rows to a release.

1. ingest     the raw rows of every source
2. validate   the data contract; bad rows to quarantine
3. features   the features of every event, as of that event
4. dataset    the point-in-time training set, split in time
5. tune       the sweep over the search space
6. train      the model, and a plain baseline beside it
7. evaluate   held-out metrics against baseline and champion; the verdict
8. register   a version with its lineage
9. release    the request to release it; refused unless the verdict is a pass
10. start     the canary of that release, where serving is a cluster
"""

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from components.dataset.component import dataset
from components.evaluate.component import evaluate
from components.features.component import features
from components.ingest.component import ingest
from components.register.component import register
from components.release.component import release
from components.start.component import start
from components.train.component import train
from components.tune.component import tune
from components.validate.component import validate
from pipelines.pods import Furnish
from seaway.config import Pipeline, StepResources

_GPU = "nvidia.com/gpu"
_SHARED_MEMORY = ("tune", "train", "score")  # Ray and torch exchange data through /dev/shm; a pod's default is 64 MB


def training_pipeline(settings: Pipeline, furnish: Furnish | None = None) -> BaseComponent:
    """The pipeline with images, resources and retries as ``settings`` says.

    Its parameters: ``config``, the resolved configuration as JSON, and ``run``, the run's id. ``furnish`` adds
    to each task what its pod needs on a cluster (pipelines.pods).
    """

    def place(task: dsl.PipelineTask, step: str, title: str) -> dsl.PipelineTask:
        placed(task, step, settings).set_display_name(title)
        return furnish(task, step) if furnish else task

    @dsl.pipeline(name="seaway-training", description="Raw rows to a release.")
    def training(config: str, run: str = ""):
        raw = place(ingest(config=config), "ingest", "Ingest raw rows")
        valid = place(validate(config=config, raw=raw.outputs["out"]), "validate", "Validate rows")
        table = place(features(config=config, valid=valid.outputs["out"]), "features", "Compute features")
        data = place(dataset(config=config, features=table.outputs["out"]), "dataset", "Join training set")
        best = place(tune(config=config, dataset=data.outputs["out"]), "tune", "Sweep parameters")
        model = place(
            train(config=config, dataset=data.outputs["out"], best=best.outputs["out"]), "train", "Train model"
        )
        verdict = place(
            evaluate(config=config, dataset=data.outputs["out"], model=model.outputs["out"]),
            "evaluate",
            "Evaluate model",
        )
        version = place(
            register(
                config=config,
                run=run,
                raw=raw.outputs["out"],
                dataset=data.outputs["out"],
                model=model.outputs["out"],
                evaluation=verdict.outputs["out"],
            ),
            "register",
            "Register version",
        )
        asked = place(release(config=config, version=version.outputs["out"]), "release", "Request release")
        place(
            start(config=config, request=asked.outputs["out"], features=table.outputs["out"]), "start", "Start release"
        )

    return training


def placed(task: dsl.PipelineTask, step: str, settings: Pipeline) -> dsl.PipelineTask:
    """Image, resources and retries of a task."""
    needs = settings.resources.get(step, StepResources())
    task.set_container_image(settings.image)
    task.set_cpu_request(needs.cpu).set_cpu_limit(needs.cpu)
    task.set_memory_request(needs.memory).set_memory_limit(needs.memory)
    if needs.gpu:
        task.set_accelerator_type(_GPU).set_accelerator_limit(needs.gpu)
        kubernetes.add_toleration(task, key=_GPU, operator="Exists", effect="NoSchedule")
    if settings.retries:
        task.set_retry(num_retries=settings.retries, backoff_duration="10s", backoff_factor=2)
    # KFP's own cache goes by the names of inputs and would replay old output for changed data; ours goes
    # by their content
    task.set_caching_options(enable_caching=False)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    if step in _SHARED_MEMORY:
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory")  # noqa: S108
    return task
