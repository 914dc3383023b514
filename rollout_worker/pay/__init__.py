"""What a worker keeps and proves about its pay, and how it answers accusations."""
