"""How the weights of nano were made: data, procedural images, loop, ranking."""
