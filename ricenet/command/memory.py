"""Memory that is available: on this machine, or in our control group (SLURM, Docker)."""

import os
from pathlib import Path


def fitting_jobs(memory_gb: float) -> int:
    """How many processes of `memory_gb` each fit on this machine: one per core that we may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(available_gb() / memory_gb)))


def available_gb() -> float:
    """Memory that may be taken now: what the machine has free, or what our group of processes (SLURM, Docker) may."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for _, controllers, group in groups:
        root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
        of_group = root / group.lstrip("/")
        for folder in (of_group, *of_group.parents):
            for limit in (folder / "memory.max", folder / "memory.limit_in_bytes"):
                if limit.is_file() and (text := limit.read_text().strip()).isdigit():
                    limits.append(int(text))
    return min(limits) / 2**30
