"""How long does a user wait for --help, and for the answer to a wrong key? CPU seconds of the whole command.

python benchmarks/startup.py        (two minutes)

Writes outputs/bench/startup.json (--help) and startup_error.json (a key that there is not). Peers: an entry point that
imports torch, lightning, monai, hydra and wandb at the top, as lightning-hydra-template's does, and Hydra alone.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from bench import CHILDREN, measure

ROUNDS = 5
ENTRY_POINT = """
import hydra

@hydra.main(version_base="1.3", config_path=".", config_name="train")
def main(cfg):
    pass

main()
"""
CONFIG = "cases: ???\noptimizer:\n  learning_rate: 1.0e-4\n"
OURS = ("-m", "ricenet.train")


def main(scripts: Path) -> None:
    template, hydra_alone = scripts / "template.py", scripts / "hydra_alone.py"
    template.write_text("import torch, lightning, monai, wandb" + ENTRY_POINT)
    hydra_alone.write_text(ENTRY_POINT)
    (scripts / "train.yaml").write_text(CONFIG)
    for name, argument in {"startup": "--help", "startup_error": "optimizer.lr=1"}.items():
        measure(
            name,
            partial(run, *OURS, argument),
            {
                "template": partial(run, str(template), argument),
                "hydra alone": partial(run, str(hydra_alone), argument),
            },
            ROUNDS,
            clock=CHILDREN,
            argument=argument,
        )


def run(*arguments: str) -> None:
    """Run Python until it has said something: help on the one stream, an error on the other."""
    result = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    if not (result.stdout if "--help" in arguments else result.stderr):
        raise RuntimeError(f"{' '.join(arguments)}: expected help or an error, got none")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
