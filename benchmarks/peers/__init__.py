"""What the scripts that look into other libraries share: their precision and their draws."""
