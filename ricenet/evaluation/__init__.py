"""The runs of a grid scored and compared: tables, contrasts, baselines, figures, checklists."""
