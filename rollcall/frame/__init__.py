"""The start of every role: settings, key, logs, console."""
