"""Who is in a study: the cohort table, pseudonyms, folds, channels and covariates."""
