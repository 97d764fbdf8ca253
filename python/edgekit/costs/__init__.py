"""What layers cost: multiplications and bytes read from plans, times measured here, or modelled for a board."""
