"""What a model holds and costs."""
