"""The orchestrator's rules: pure functions of state, message, time and seed."""
