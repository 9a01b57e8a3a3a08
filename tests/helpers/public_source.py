"""The config of a public cohort."""

from omegaconf import OmegaConf

from ricenet.command.schemas import CONF_DIR, SourceConfig


def source(name: str) -> SourceConfig:
    return OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(SourceConfig), OmegaConf.load(CONF_DIR / "source" / f"{name}.yaml"))
    )
