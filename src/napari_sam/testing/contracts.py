"""What every model and every embedding store must do, as tests to inherit."""
