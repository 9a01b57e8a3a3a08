"""Training one cell of a grid: data, augmentation, network, run folder, checkpoint, and the state of a grid."""
