"""The seven modality sets of the paper and its published numbers."""

# Macro-F1 (validation: mean over 5 folds; test: majority vote) as published; also the order of tables and figures.
PAPER: dict[str, dict[str, float | None]] = {
    "event": {"validation": 0.58, "test": None},
    "post": {"validation": 0.70, "test": None},
    "rd": {"validation": 0.78, "test": None},
    "post_event": {"validation": 0.70, "test": None},
    "rd_post": {"validation": 0.828, "test": None},
    "rd_event": {"validation": 0.83, "test": None},
    "rd_post_event": {"validation": 0.804, "test": 0.916},
}
