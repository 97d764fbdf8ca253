"""Ways of a bundle to devices, and what devices say back."""
