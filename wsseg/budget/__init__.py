"""What annotation costs: functions from counts to seconds."""
