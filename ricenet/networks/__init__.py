"""The networks: which there are, how they are built, and what MedicalNet's weights need."""
