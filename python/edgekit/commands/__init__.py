"""Commands of the command line, a module each; cli.py collects them."""
