"""What occlusion maps say about a case and a cohort: regions, attribution, curves, figures, sentences."""
