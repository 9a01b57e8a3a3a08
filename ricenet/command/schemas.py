"""Stage configs: YAML and command line in, one checked dataclass out; and the errors that stages raise.

The values live in conf/<stage>.yaml, the types here. Nothing in any config is instantiated by Hydra: a key that is not
a field of the schema, `_target_` included, is an error.

Imports stay light: `--help` answers before Hydra is loaded, every config error before torch is.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ricenet.command.row_names import METADATA_ONLY, NUMBERS, ONE_MODEL, RowName

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel conf/ lies inside the package, in a checkout beside it.
CONF_DIR = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())

Config = TypeVar("Config")


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
    without_post: float
    without_rd: float
    difficulty: str


@dataclass
class SourceConfig:
    name: str
    layout: str
    columns: dict[str, str]
    label_map: dict[str, str]
    label_source: str
    label_source_map: dict[str, str] = field(default_factory=dict)
    date_format: str = ""
    events: str = "all"
    empty_cells: list[str] = field(default_factory=list)
    id_pattern: str = ""
    sheet: str = ""
    completed_by: str = ""
    optional: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    covariates: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=lambda: ["post", "event", "rd"])
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class RuleConfig:
    role: str
    modality: str
    matches: str
    contrast: bool | None
    when: str
    min_slices: int
    max_spacing_mm: float
    kind: str = "t1"


@dataclass
class DoseLimitsConfig:
    name: str
    over_prescription: list[float]
    highest_gy: float
    gy_per_fraction: float


@dataclass
class StructureRuleConfig:
    name: str
    matches: str


@dataclass
class IntakeConfig:
    """How one patient's DICOM is read: the keys of conf/ingest.yaml that ricenet.predict has a use for, too."""

    dose_limits: DoseLimitsConfig
    alpha_beta: float | None
    dose_type: str
    event_tolerance_days: int
    contrast_in_description: str
    no_contrast_in_description: str
    never: str
    trust_agent: bool
    rules: list[RuleConfig]
    structures: list[StructureRuleConfig]


@dataclass
class IngestConfig(IntakeConfig):
    source: SourceConfig
    delivery: str
    labels: str
    sheet: str | None
    out: str
    key: str | None
    dose: bool
    post: bool
    partial: bool
    keep: list[str]
    test_share: float
    descriptions: bool
    prune: bool
    jobs: int


@dataclass
class VerifyConfig:
    cohort: str
    cases: str | None
    dose_limits: DoseLimitsConfig
    out: str
    jobs: int
    limit_minutes: float
    memory_gb: float
    flip: bool
    pictures: int
    partial: bool


@dataclass
class PreprocessConfig:
    cohort: str
    cases: str
    dose_limits: DoseLimitsConfig
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
    likeness: str
    folds: int
    fold_seed: int
    skip_failed: bool
    prune: bool
    covariates: list[str]
    partial: bool
    bids: str | None
    seed: int


@dataclass
class ModalitiesConfig:
    name: str
    channels: list[str]


@dataclass
class ModelConfig:
    name: str
    architecture: str
    width: int
    conv1_size: int
    conv1_stride: int
    max_pool: bool
    pool: str
    dropout: float
    channel_dropout: float
    shortcuts: str
    pretrained: str | None
    numbers: list[str]


@dataclass
class PretrainedConfig:
    """Whose file model.pretrained is, and what is done with it; without such a file it has no effect."""

    name: str
    state_dict: str | None
    prefixes: list[str]
    requires: dict[str, Any]
    dose: str
    freeze: str
    learning_rate_factor: float
    licence: str
    citation: str

    @property
    def start(self) -> str:
        """What a row that starts from the file is called after."""
        return self.name + {"none": "", "all": "_frozen"}.get(self.freeze, f"_{self.freeze}")


@dataclass
class InputsConfig:
    name: str
    isodoses_gy: list[float]
    isodose_edge_gy: float
    difference: bool
    relative_dose: bool


MAX_CROP_MM = 256.0  # a head


@dataclass
class CropConfig:
    name: str
    at: str | None
    size_mm: float
    jitter_mm: float
    everywhere: bool


@dataclass
class DataConfig:
    batch_size: int
    workers: int
    cache: str
    augment_on: str


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
    strategy: str
    precision: str
    threads: int
    limit_batches: int | None
    progress: bool


@dataclass
class StepConfig:
    pool_first: bool
    recompute_stem: bool
    channels_last: bool
    compile: bool
    accumulate: int


@dataclass
class OptimizerConfig:
    learning_rate: float
    weight_decay: float
    schedule: str
    label_smoothing: float
    fused: bool


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
    several_seeds: bool
    control: str | None
    epochs: int
    steps: int | None
    checkpoint: str
    checkpoint_every: int
    validate_every: int
    averaging: str
    ema_decay: float
    batch_norm: str
    mixup: float
    modalities: ModalitiesConfig
    model: ModelConfig
    pretrained: PretrainedConfig
    inputs: InputsConfig
    crop: CropConfig
    data: DataConfig
    augmentation: AugmentationConfig
    trainer: TrainerConfig
    optimizer: OptimizerConfig
    step: StepConfig
    logger: LoggerConfig

    @property
    def cropped(self) -> bool:
        """Whether the network sees a crop of each volume: sets without the event MRI do not know where a lesion is."""
        if self.crop.at is None or self.control == METADATA_ONLY:
            return False
        return self.crop.at == "random" or self.crop.everywhere or "event" in self.modalities.channels

    @property
    def row(self) -> str:
        """The row of the grid that a run belongs to: its modality set, or the one model for all sets; or a control.

        A set that is cropped at a place that it does not tell itself says so: rd@lesion, rd_post_event@random; so do a
        network that starts from others' weights, rd_event+medicalnet, and one that sees numbers of the case,
        rd_post_event+numbers.
        """
        if self.control == METADATA_ONLY:
            return METADATA_ONLY
        of_set = ONE_MODEL if self.model.channel_dropout else self.modalities.name
        untold = self.cropped and (self.crop.at == "random" or "event" not in self.modalities.channels)
        place = (self.crop.at or "") if untold else ""
        start = () if self.model.pretrained is None else (self.pretrained.start,)
        numbers = (NUMBERS,) if self.model.numbers else ()
        return str(RowName(of_set, place, (*start, *numbers), self.control or ""))


@dataclass
class StatusConfig:
    run: str


@dataclass
class EvaluateConfig:
    run: str
    bootstrap_draws: int
    seed: int
    test: bool
    contrasts: list[str]
    subgroups: list[str]
    clinical: list[str]


@dataclass
class ExplainConfig:
    run: str
    case: Any  # a word or a list of keys
    modalities: ModalitiesConfig
    masks: str | None
    cube_mm: float
    stride_mm: float
    refine_mm: float | None
    fill: Any  # a number, "blur", or numbers by channel
    per_channel: bool
    randomised: bool
    curves: bool
    precision: str
    batch_size: int
    memory_gb: float
    accelerator: str
    threads: int


@dataclass
class PredictConfig:
    export: str | None
    run: str | None
    model_folder: str | None
    patient: str | None
    cohort: str | None
    out: str | None
    modalities: ModalitiesConfig
    post_date: str | None
    event_date: str | None
    radiotherapy_start: str | None
    post_series: str | None
    event_series: str | None
    planning_series: str | None
    doses: str | None
    plans: str | None
    exclude_doses: str | None
    fractions: int | None
    delivered_fractions: int | None
    prescription_gy: float | None
    clinical: Any  # values by name
    ingest: str | None
    brain: str | None
    hdbet2_env: str | None
    occlusion: bool
    dicom: bool
    cube_mm: float
    stride_mm: float
    refine_mm: float | None
    precision: str
    batch_size: int
    memory_gb: float
    accelerator: str
    threads: int | None


@dataclass
class DashboardConfig:
    to: str
    entity: str | None
    project: str
    row: str | None
    run: str | None


@dataclass
class ReportConfig:
    run: str | None
    qc: str | None
    pictures: int | None


def typed_config(schema: type[Config], raw: "DictConfig") -> Config:
    """Merge a composed config into its schema once more, so that a key nobody declared is an error.

    Hydra accepts `+modalties=rd_event` in silence, with schemas in the defaults list too; only this merge catches it.

    Raises:
        omegaconf.errors.OmegaConfBaseException: unknown key, wrong type, or a mandatory value that was not given.
    """
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(raw, resolve=True, throw_on_missing=True)
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))  # type: ignore[return-value]


def defaults_of(name: str) -> dict[str, Any]:
    """The keys of conf/<name>.yaml itself, for a stage that does part of another's work; groups are left out."""
    import yaml

    keys = yaml.safe_load((CONF_DIR / f"{name}.yaml").read_text())
    return {key: value for key, value in keys.items() if key not in ("defaults", "hydra")}


def compose(name: str, schema: type[Config], overrides: list[str]) -> Config:
    """The config that `python -m ricenet.<name> <overrides>` would run, for tests and notebooks."""
    import hydra

    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return typed_config(schema, hydra.compose(name, overrides))
