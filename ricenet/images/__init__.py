"""Volumes in world space (mm, RAS+): reading and resampling, registration, brain masks, dose limits."""
