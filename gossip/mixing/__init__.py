"""What a swap does to parameters: the flat vector, the outer step, corrections."""
