"""What runs the model: each engine says which row belongs to which request and position."""
