"""The start of every role: settings, key, folder, logs, console; and how every command is ending."""
