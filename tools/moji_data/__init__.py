"""From pinned npm packages to moji's pictures and words: fetch, choose concepts, caption, render, pack.

Run from the root: `python -m tools.moji_data build` (see `__main__`). Everything fetched or rendered lies
under `.cache/moji/`, which git ignores; only `src/cjkclip/moji/` receives files that are committed.
"""
