"""What one trial needs, and so how many run at a time."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from components.ray.rayjob import ray_cores
from seaway.config import Config, StepResources
from seaway.errors import SeawayError

_UNITS = {
    **{unit: 1024 ** (n + 1) for n, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
    **{unit: 1000 ** (n + 1) for n, unit in enumerate(("k", "M", "G", "T"))},
}
# of NVIDIA's driver, of AMD's, and of Windows'; where there is none torch, which takes seconds to import, need not look
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Needs:
    """Cores, bytes of memory, and GPUs or a share of one."""

    cpu: float
    memory: int
    gpu: float = 0.0

    @classmethod
    def of(cls, resources: StepResources) -> Needs:
        return cls(cores(resources.cpu), size(resources.memory), float(resources.gpu))

    def fits(self, cpu: float, memory: float, gpu: float = 0.0) -> int:
        """How many find room in so much; 0 where not one does."""
        each = [(cpu, self.cpu), (memory, self.memory), (gpu, self.gpu)]
        return min((math.floor(there / wanted + 1e-9) for there, wanted in each if wanted), default=0)

    @property
    def threads(self) -> int:
        return max(1, int(self.cpu))


def cores(text: str) -> float:
    """``"500m"`` is 0.5, ``"2"`` is 2."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def size(text: str) -> int:
    """Bytes of ``"4Gi"``, ``"512Mi"`` or ``"2G"``; SeawayError for anything else."""
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        return int(float(text.removesuffix(unit)) * _UNITS.get(unit, 1))
    except ValueError:
        raise SeawayError(f"{text!r} is no amount of memory: write a number and a unit, such as 512Mi or 4Gi") from None


def here(config: Config) -> tuple[int, int]:
    """Cores and bytes of memory that a sweep on this machine may use: the configuration's, the pod's, the machine's."""
    cpus = config.compute.cpus or len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUPS:
        if file.exists() and (text := file.read_text().strip()).isdigit():
            memory = min(memory, int(text))
    return cpus, memory


def gpus_here(config: Config) -> int:
    """GPUs that a sweep on this machine may use."""
    if config.compute.device == "cpu" or not any(device.exists() for device in _GPU_DEVICES):
        return 0
    import torch

    return torch.cuda.device_count()


def slots_here(config: Config, gpus: int = 0) -> int:
    """Trials at a time on this machine, at least one; SeawayError where it has not what a single one needs."""
    resources = config.workload.sweep.resources
    needs, (cpus, memory) = Needs.of(resources), here(config)
    number = needs.fits(cpus, memory, gpus)
    if not number:
        raise SeawayError(
            f"a trial needs {resources.cpu} CPU, {resources.memory} and {resources.gpu:g} GPU "
            f"(workload.sweep.resources); this machine gives {cpus} CPU, {memory >> 20}Mi and {gpus} GPU: "
            "ask for less, or run the sweep elsewhere (ray.substrate: address or kuberay)"
        )
    return number


def slots_of_job(config: Config) -> int:
    """How many trials a RayJob runs at a time: what each worker has room for, and one a GPU where they ask for none.

    Raises SeawayError where a worker has not what a single trial needs.
    """
    ray, asked = config.ray, config.workload.sweep.resources
    needs, worker = Needs.of(asked), ray.worker
    each = needs.fits(ray_cores(worker), size(worker.memory), worker.gpu)
    if worker.gpu and not needs.gpu:
        each = min(each, int(worker.gpu))
    if not each:
        raise SeawayError(
            f"a trial needs {asked.cpu} CPU, {asked.memory} and {asked.gpu:g} GPU (workload.sweep.resources), and "
            f"a worker has {worker.cpu} CPU, {worker.memory} and {worker.gpu} GPU (ray.worker): ask for less there, or "
            "give more here"
        )
    return max(ray.max_workers or ray.workers, ray.workers) * each
