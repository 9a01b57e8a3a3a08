"""The console script: `ricenet <stage> key=value ...` is `python -m ricenet.<stage> key=value ...`."""

import importlib
import sys

from ricenet import __version__

STAGES = {
    "phantom": "write a synthetic cohort with known truth",
    "ingest": "a delivery of DICOM or NIfTI and a label table -> cohort folder",
    "verify": "a cohort's findings: files, geometry, dose, roles, duplicates",
    "preprocess": "cohort folder -> model-ready case folders",
    "train": "one fold of one modality set, or with -m a grid",
    "status": "how a grid stands, while it is trained and after",
    "evaluate": "folds -> out-of-fold tables, intervals, figures",
    "explain": "occlusion maps of a finished grid",
    "predict": "a trained grid -> model folder; a new patient -> probability, map and page",
    "report": "one self-contained HTML page of a run",
    "dashboard": "the W&B workspace that compares folds",
}


def main() -> None:
    """Print the stages or the version, or hand the rest of the command line to a stage."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ricenet STAGE [key=value ...]      (ricenet STAGE --help shows its keys)\n")
        print("\n".join(f"  {stage:<12}{purpose}" for stage, purpose in STAGES.items()))
        print("\nResearch use only: not a medical device.")
        return
    if arguments[0] == "--version":
        print(f"ricenet {__version__}")
        return
    if arguments[0] not in STAGES:
        print(_unknown(arguments[0]), file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [f"ricenet {arguments[0]}"]
    importlib.import_module(f"ricenet.{arguments[0]}").main()


def _unknown(stage: str) -> str:
    from difflib import get_close_matches

    similar = get_close_matches(stage.lower(), STAGES, n=1)
    guess = f"; did you mean {similar[0]}?" if similar else "."
    return f"ricenet: no stage named {stage!r}{guess} Available: {', '.join(STAGES)}"


if __name__ == "__main__":
    main()
