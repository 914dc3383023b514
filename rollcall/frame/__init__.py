"""What every role starts with: settings, key, logs, console."""
