"""Build moji's images and captions from pinned npm packages: fetch, choose concepts, caption, render, pack.

Run from the root: `python -m tools.moji_data build` (see `__main__`). Downloads and
rendered images are in `.cache/moji/`, which git ignores; files to commit are written only to `src/cjkclip/moji/`.
"""
