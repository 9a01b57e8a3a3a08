"""A trained grid as a portable model folder, and the prediction for a new patient."""
