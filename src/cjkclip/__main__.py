"""The program `cjkclip`, which is `python -m cjkclip` too.

The command line is imported when it runs, so that Ctrl-C before its first word ends like any later one.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cjkclip.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("cjkclip: interrupted\n")
        sys.exit(130)  # cli.streams.INTERRUPTED, which could not be imported
    run()


if __name__ == "__main__":
    main()
