"""Moving in from what people used before, and out again."""
