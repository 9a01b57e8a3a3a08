"""Occlusion sensitivity, exact and incremental: a network, a volume and cubes in, logits out."""
