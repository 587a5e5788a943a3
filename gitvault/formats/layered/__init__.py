"""Files made of layers, pages or members: their elements, one taken out, one put into another version."""
