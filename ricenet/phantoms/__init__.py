"""Synthetic patients with known truth: causal model, anatomy, scanner, hospital."""
