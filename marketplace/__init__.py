"""Tables and photos of a marketplace: read, cleaned, and joined into arrays."""
