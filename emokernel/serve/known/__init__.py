"""What a server tells without generating, its own or vLLM's: its emotions, and texts as read."""
