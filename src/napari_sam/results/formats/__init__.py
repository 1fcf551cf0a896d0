"""Writers and readers of results: one file a format."""
