"""The program `cjkclip`, also `python -m cjkclip`.

The command line is imported when it runs, so that Ctrl-C during the import ends with the same message as later.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cjkclip.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("cjkclip: interrupted\n")
        sys.exit(130)  # cli.streams.INTERRUPTED, whose import was interrupted
    run()


if __name__ == "__main__":
    main()
