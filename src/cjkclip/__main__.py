"""`python -m cjkclip` is the program `cjkclip`."""

from cjkclip.cli import main

if __name__ == "__main__":
    main()
