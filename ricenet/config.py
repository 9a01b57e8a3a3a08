"""Stage configs: YAML and command line in, one checked dataclass out, one exit code to the shell.

The values live in conf/<stage>.yaml, the types here. A stage is a function `work(cfg: <Stage>Config) -> None` under
`@stage`; below it there is no DictConfig and no default. Nothing in any config is instantiated by Hydra: a key that is
not a field of the schema, `_target_` included, is an error.

Imports stay light (hydra, omegaconf): `--help` and every config error answer before torch is loaded.
"""

import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

EXIT_DONE, EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE, EXIT_SIGTERM = 0, 1, 2, 3, 4, 143
_PACKAGE = Path(__file__).resolve().parent
# In a wheel conf/ lies inside the package, in a checkout beside it.
CONF_DIR = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())

log = logging.getLogger(__name__)
Config = TypeVar("Config")


class WrongUsage(Exception):
    """A command that cannot be meant as given, against what is there: exit code 2."""


class InvalidInput(Exception):
    """Input that cannot be used: exit code 3, nothing written.

    Args:
        message: expected, got, which case.
        hint: what to do next.
        code: stable name of the rule that is broken, `group.rule`; what `verify` reports it under.
    """

    def __init__(self, message: str, hint: str = "", code: str = "input.invalid"):
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message, self.hint, self.code = message, hint, code

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # it crosses process borders with all three
        return type(self), (self.message, self.hint, self.code)


class Incomplete(Exception):
    """Some cases or runs failed, the others are finished: exit code 4. The message lists all that failed."""


@dataclass
class PhantomConfig:
    out: str
    patients: int
    format: str
    spacing_mm: float
    size: int
    case_spacing_mm: float
    folds: int
    seed: int
    jobs: int
    swap_label_effects: bool


@dataclass
class SourceConfig:
    name: str
    layout: str
    columns: dict[str, str]
    label_map: dict[str, str]
    label_source: str


@dataclass
class RuleConfig:
    role: str
    modality: str
    matches: str
    contrast: bool | None
    when: str
    min_slices: int
    max_spacing_mm: float


@dataclass
class IngestConfig:
    source: SourceConfig
    delivery: str
    labels: str
    out: str
    key: str | None
    dose: bool
    alpha_beta: float | None
    keep: list[str]
    test_share: float
    event_tolerance_days: int
    contrast_in_description: str
    never: str
    rules: list[RuleConfig]
    jobs: int


@dataclass
class VerifyConfig:
    cohort: str
    cases: str | None
    out: str
    jobs: int
    limit_minutes: float
    memory_gb: float
    flip: bool
    pictures: int


@dataclass
class PreprocessConfig:
    cohort: str
    cases: str
    jobs: int | None
    limit_minutes: float
    memory_gb: float
    brain: str
    hdbet2_env: str | None
    hdbet_models: int
    hdbet_tta: bool
    device: str
    reference: str
    brain_on: str
    registration: str
    spacing_mm: float
    size: int
    dose_scaling: str
    folds: int
    fold_seed: int
    skip_failed: bool
    prune: bool
    seed: int


@dataclass
class ModalitiesConfig:
    name: str
    channels: list[str]


@dataclass
class ModelConfig:
    name: str
    width: int
    conv1_size: int
    conv1_stride: int
    max_pool: bool
    dropout: float


@dataclass
class DataConfig:
    batch_size: int
    workers: int


@dataclass
class AugmentationConfig:
    name: str
    probability: float
    rotation_degrees: float
    scaling: float
    elastic_mm: float
    elastic_grid: int
    flip: bool
    noise: float
    brightness: float
    gamma: float


@dataclass
class TrainerConfig:
    accelerator: str
    devices: int
    precision: str
    threads: int
    limit_batches: int | None
    progress: bool


@dataclass
class OptimizerConfig:
    learning_rate: float
    weight_decay: float
    schedule: str


@dataclass
class LoggerConfig:
    name: str
    online: bool
    project: str


@dataclass
class TrainConfig:
    name: str
    run: str
    cases: str
    fold: int
    seed: int
    epochs: int
    checkpoint: str
    checkpoint_every: int
    modalities: ModalitiesConfig
    model: ModelConfig
    data: DataConfig
    augmentation: AugmentationConfig
    trainer: TrainerConfig
    optimizer: OptimizerConfig
    logger: LoggerConfig


@dataclass
class EvaluateConfig:
    run: str
    bootstrap_draws: int
    seed: int


@dataclass
class ExplainConfig:
    run: str
    case: Any  # a word or a list of keys
    modalities: ModalitiesConfig
    cube_mm: float
    stride_mm: float
    fill: float
    per_channel: bool
    batch_size: int
    accelerator: str
    threads: int


@dataclass
class DashboardConfig:
    entity: str
    project: str


@dataclass
class ReportConfig:
    run: str
    qc: str | None
    pictures: int


def typed_config(schema: type[Config], raw: DictConfig) -> Config:
    """Merge a composed config into its schema once more, so that a key nobody declared is an error.

    Hydra accepts `+modalties=rd_event` in silence, with schemas in the defaults list too; only this merge catches it.

    Raises:
        omegaconf.errors.OmegaConfBaseException: unknown key, wrong type, or a mandatory value that was not given.
    """
    plain = OmegaConf.to_container(raw, resolve=True, throw_on_missing=True)
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))  # type: ignore[return-value]


def compose(name: str, schema: type[Config], overrides: list[str]) -> Config:
    """The config that `python -m ricenet.<name> <overrides>` would run, for tests and notebooks."""
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return typed_config(schema, hydra.compose(name, overrides))


def stage(
    name: str, schema: type[Config], *, private: bool = False
) -> Callable[[Callable[[Config], None]], Callable[[], NoReturn]]:
    """Turn `work(config)` into the command line `python -m ricenet.<name>`.

    A `private` stage reads patients' files: an exception that nobody foresaw is told by its place alone, because its
    text may hold a path, an id or a header. RICENET_TRACEBACK=1 shows all of it.

    In a single run the process ends with the exit codes above. In a multirun every job is tried: a failed one leaves
    its traceback in the log, and the process ends with 4 when all are through (conf/grid.yaml, GridSummary).
    """

    def decorate(work: Callable[[Config], None]) -> Callable[[], NoReturn]:
        entered = False

        def job(raw: DictConfig) -> None:
            nonlocal entered
            entered = True
            try:
                config = typed_config(schema, raw)
            except OmegaConfBaseException as error:
                _stop(
                    EXIT_USAGE, f"config of ricenet.{name}: {_first_line(error)} (see python -m ricenet.{name} --help)"
                )
            try:
                work(config)
            except WrongUsage as error:
                _stop(EXIT_USAGE, str(error))
            except InvalidInput as error:
                _stop(EXIT_INVALID_INPUT, str(error))
            except Incomplete as error:
                _stop(EXIT_INCOMPLETE, str(error))
            except Exception as error:
                if not private or "RICENET_TRACEBACK" in os.environ:
                    raise
                _stop(
                    EXIT_CRASHED, f"{name} crashed: {without_private_text(error)}; RICENET_TRACEBACK=1 shows the rest"
                )

        def main() -> NoReturn:
            try:
                hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=name)(_tolerant(job))()
            except SystemExit as stop:
                # Hydra ends with 1 for what it finds wrong in overrides and config files, before any job starts.
                sys.exit(EXIT_USAGE if stop.code == 1 and not entered else stop.code)
            except KeyboardInterrupt:
                sys.exit(128 + signal.SIGINT)
            sys.exit(EXIT_DONE)

        return main

    return decorate


def without_private_text(error: BaseException) -> str:
    """The type and place of an exception, and the system's word for it; not its message, which may name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    what = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{what}{where}"


def _tolerant(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], str]:
    """In a multirun one broken job must not end the others; its failure is kept beside the grid for GridSummary."""

    def guarded(raw: DictConfig) -> str:
        hydra_config = HydraConfig.get()
        if hydra_config.mode != RunMode.MULTIRUN:
            job(raw)
            return "done"
        mark = _failure_mark(hydra_config.sweep.dir, hydra_config.job.override_dirname)
        try:
            job(raw)
        except SystemExit as stop:
            if stop.code == EXIT_SIGTERM:
                raise
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"exit {stop.code}")
            return "failed"
        except Exception as error:
            log.exception("%s failed", hydra_config.job.override_dirname)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"{type(error).__name__}: {_first_line(error)}")
            return "failed"
        return "done"

    return guarded


class GridSummary(Callback):
    """Hydra callback: when the last job of a multirun is through, list those that failed and end with exit code 4."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        shutil.rmtree(_failure_mark(config.hydra.sweep.dir, "x").parent, ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra's copy of the sweep holds the paths as they were typed; every run folder has its own config.yaml.
        (Path(config.hydra.sweep.dir) / "multirun.yaml").unlink(missing_ok=True)
        marks = sorted(_failure_mark(config.hydra.sweep.dir, "x").parent.glob("*.txt"))
        if marks:
            lines = "\n".join(f"  {mark.stem}: {mark.read_text()}" for mark in marks)
            _stop(EXIT_INCOMPLETE, f"{len(marks)} job(s) of the grid failed, the others are finished:\n{lines}")


def _failure_mark(sweep_dir: str, overrides: str) -> Path:
    return Path(sweep_dir) / "failed" / f"{overrides.replace('/', '_')}.txt"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _stop(code: int, message: str) -> NoReturn:
    print(f"ricenet: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
