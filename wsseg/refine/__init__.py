"""Maps made better with the photo's help: functions from arrays to arrays."""
