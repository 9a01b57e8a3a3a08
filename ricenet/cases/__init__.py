"""Model-ready case folders: alignment on one grid, their record, their volumes, their quality-control pictures."""
