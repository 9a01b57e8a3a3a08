"""The networks: which there are, how they are built, and how they start from weights of others."""
