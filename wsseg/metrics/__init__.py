"""Scores of predictions against truth: functions from arrays to arrays."""
