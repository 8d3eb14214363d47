"""Metrics, calibration, corruptions and paired tests of predictions."""
