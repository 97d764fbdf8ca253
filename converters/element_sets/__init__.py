"""Which elements of a graph's values have one variable, whatever it says about them."""
