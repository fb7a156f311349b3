"""Model classes with transformers' interface, on the towers of engines/torch."""
