"""Memory and cores that may be used."""

import os

from ricenet.command.memory import available_gb, fitting_jobs

MACHINE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def test_jobs_fit_the_cores_and_the_memory():
    assert 0 < available_gb() <= MACHINE_GB
    cores = len(os.sched_getaffinity(0))
    assert fitting_jobs(0.001) == cores
    assert fitting_jobs(available_gb() * 2) == 1
    one = {next(iter(os.sched_getaffinity(0)))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, one)
    try:
        assert fitting_jobs(0.001) == 1
    finally:
        os.sched_setaffinity(0, before)
