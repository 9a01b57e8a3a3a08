"""The config of a public cohort, and how its label table is written."""

from omegaconf import OmegaConf

from ricenet.cohort.label_table import TableForm
from ricenet.command.schemas import CONF_DIR, SourceConfig


def source(name: str) -> SourceConfig:
    return OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(SourceConfig), OmegaConf.load(CONF_DIR / "source" / f"{name}.yaml"))
    )


def form(cfg: SourceConfig, **given) -> TableForm:
    """What ricenet.ingest makes of the config."""
    keys = {"date_format": cfg.date_format, "empty_cells": tuple(cfg.empty_cells), "id_pattern": cfg.id_pattern}
    return TableForm(**{**keys, "label_source_map": cfg.label_source_map, "sheet": cfg.sheet, **given})
