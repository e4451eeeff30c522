"""What makes emotion vectors and what judges them; steering itself needs nothing of it."""
