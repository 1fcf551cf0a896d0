"""Qt widgets: values in through setters, wishes out through signals, no napari."""
