"""The napari plugin: views, and the controller that joins them to a session."""
