"""The runtimes that a user could pick instead, each behind one interface, and the contest between all of them."""
