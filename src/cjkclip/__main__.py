"""The program `cjkclip`, also `python -m cjkclip`.

The command line is imported inside `main`, so that Ctrl-C during the import prints the same message as later.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cjkclip.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("cjkclip: interrupted\n")
        sys.exit(130)  # equals cli.streams.INTERRUPTED, which may not be imported yet
    run()


if __name__ == "__main__":
    main()
