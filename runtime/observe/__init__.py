"""What operators of the program see: metrics, health, logs. Imports nothing of the rest of the runtime."""
