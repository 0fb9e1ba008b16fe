"""A small shop: orders are announced on a topic, and billing charges for them."""
