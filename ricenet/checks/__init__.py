"""Checks of a cohort: image geometry and intensities, sides, duplicates, confounders, file hashes."""
