"""What a run will cost, measured on its own data and hardware before it begins."""
