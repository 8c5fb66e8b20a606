"""Public names of this package, and the module each one comes from."""
