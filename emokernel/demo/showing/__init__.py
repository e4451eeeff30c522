"""What the demo shows: one batch of many moods, what was measured, and the page of it."""
