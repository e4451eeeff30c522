"""The endpoints that only this server has: which emotions there are, compared, moved and read."""
