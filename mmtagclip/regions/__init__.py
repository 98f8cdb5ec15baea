"""Other models' features, and which places of an image they put together."""
