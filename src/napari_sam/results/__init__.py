"""Results: labels, objects and geometry as a value, and the formats that hold them."""
