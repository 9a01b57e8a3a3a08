"""Estimators: arrays in, numbers out. Imports nothing else of ricenet."""
