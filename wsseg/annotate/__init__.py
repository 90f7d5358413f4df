"""Weak labels to maps and back: functions from arrays to arrays."""
