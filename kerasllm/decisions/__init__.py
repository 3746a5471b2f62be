"""What may be concluded from a score? Calibration, sets, thresholds, ranking measures; NumPy only, no model."""
