"""Which tests belong to the fast lane: those that start no process, train nothing, take no seconds. A pytest plugin.

The rule reads the code: a test is marked `process` where it, one of its fixtures, or a function of the tests that these
call uses one of STARTERS; so `slow` of SLOW and `heavy` of HEAVY. In every lane a test without the mark that starts a
process or trains all the same fails, with the advice to add it.
"""

import gc
import multiprocessing.process
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
# Modules and functions that start processes or train. What a function of ricenet calls is not looked at.
STARTERS = {
    "subprocess", "helpers.commands", "ricenet.command.processes.run_each", "ricenet.command.provenance.provenance",
    "ricenet.delivery.intake.from_dicom", "ricenet.dicom.image_series.read_series", "ricenet.phantom.write_phantom",
    "ricenet.train.train", "ricenet.training.fit.fit", "ricenet.verify.verify_cohort",
}  # fmt: skip
# What takes seconds: a registration, an evaluation, maps, a prediction.
SLOW = {
    "ricenet.images.registration.rigid", "ricenet.cases.alignment.align", "ricenet.cases.case_folder.prepare",
    "ricenet.cases.case_folder.make_case_folder", "ricenet.evaluate.evaluate", "ricenet.explain.explain",
    "ricenet.predict.predict_patient", "ricenet.prediction.predictor.predict_case",
    "ricenet.prediction.new_case.predict",
}  # fmt: skip
# What takes about a second: a figure, a case examined or drawn, a delivery, whether a planning image shows the head of
# an MRI; and a whole command line.
HEAVY = {
    "ricenet.cases.planning_check.check_planning", "ricenet.cases.planning_check.planning_agreement",
    "ricenet.cases.qc_picture.draw_case", "ricenet.checks.case_checks.draw", "ricenet.checks.case_checks.examine",
    "ricenet.evaluation.contrast_figures", "ricenet.evaluation.fold_curves.figure", "ricenet.evaluation.paper_figures",
    "ricenet.evaluation.probability_curves", "ricenet.explanation.attribution_figures",
    "ricenet.explanation.map_figures", "ricenet.phantoms.hospital.deliver", "ricenet.prediction.case_view.draw_picture",
    "ricenet.preprocess",
}  # fmt: skip
# Minutes each: they start first, so that none comes last alone.
LONGEST = ("test_launchers.py", "test_privacy.py", "test_sources.py", "test_train.py")
MAX_STEPS = 20  # of optimisers: a few steps that check a gradient are no training

_happened: list[str] = []
_steps = 0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Without the garbage collector, a fifth of this time: what is imported and collected stays until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook  # not in xdist's controller

    register_optimizer_step_post_hook(_count_step)
    items.sort(key=lambda item: item.path.name not in LONGEST)  # all others in their order
    for marker, things in ((pytest.mark.process, STARTERS), (pytest.mark.slow, SLOW), (pytest.mark.heavy, HEAVY)):
        seen: dict[CodeType, bool] = {}
        for item in items:
            functions = [item.function, *_fixture_functions(item)]  # type: ignore[attr-defined]
            if any(_uses(function, things, seen) for function in functions):
                item.add_marker(marker)


def _fixture_functions(item: pytest.Item) -> Iterator[Callable[..., Any]]:
    for definitions in item._fixtureinfo.name2fixturedefs.values():  # type: ignore[attr-defined]
        yield definitions[-1].func


def _uses(function: Callable[..., Any], things: set[str], seen: dict[CodeType, bool]) -> bool:
    """Whether the code of `function`, or of the tests' own functions that it calls, uses one of `things`."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_filename.startswith(str(TESTS)):
        return False
    if code not in seen:
        seen[code] = False  # of a function that calls itself
        names = set(_names(code))
        used = [function.__globals__[name] for name in names if name in function.__globals__]
        uses = any(_full_name(thing) in things or _uses(thing, things, seen) for thing in used)
        seen[code] = uses or _imports(names, things)
    return seen[code]


def _imports(names: set[str], things: set[str]) -> bool:
    """Whether code with these names imports one of `things` itself."""
    return any(thing in names or set(thing.rsplit(".", 1)) <= names for thing in things)


def _full_name(thing: Any) -> str | None:
    """Of a module or a function."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    return f"{thing.__module__}.{thing.__name__}" if isinstance(thing, FunctionType) else None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _steps
    _happened.clear()
    _steps = 0
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    result = yield
    marked = item.get_closest_marker("process") or item.get_closest_marker("extended")
    if not marked and (_happened or _steps > MAX_STEPS):
        what = _happened[0] if _happened else f"{_steps} steps of an optimiser"
        pytest.fail(f"outside its lane: {what}; mark the test with pytest.mark.process", pytrace=False)
    return result


def pytest_configure() -> None:
    """Take note of every process and every step of an optimiser from here on."""
    subprocess.Popen.__init__ = _noting(subprocess.Popen.__init__, "subprocess.Popen")  # type: ignore[method-assign]
    process = multiprocessing.process.BaseProcess
    process.start = _noting(process.start, "multiprocessing")  # type: ignore[method-assign]
    os.fork = _noting(os.fork, "os.fork")


def _noting(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        _happened.append(what)
        return function(*arguments, **options)

    return noted


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1
