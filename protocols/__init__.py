"""Everything at the edge: bytes to operations and back."""
