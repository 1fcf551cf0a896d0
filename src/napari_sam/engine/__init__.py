"""What is done with a model: encoding volumes, predicting masks from prompts."""
