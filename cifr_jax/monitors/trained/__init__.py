"""Evidence in what a fine-tuning job made of the model."""
