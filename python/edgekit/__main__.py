"""`python -m edgekit` is the command `edgekit`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line; an interrupt, even while it is being imported, exits as a shell expects."""
    try:
        from edgekit.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
