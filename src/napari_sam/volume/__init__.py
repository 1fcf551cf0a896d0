"""Images of any size as one `Volume`: opened lazily, read window by window."""
