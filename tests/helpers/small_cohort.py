"""The keys of ricenet.phantom for the small cohort that most tests share."""

SMALL = ["format=cases", "patients=24", "size=16", "case_spacing_mm=12", "folds=2", "jobs=1"]
